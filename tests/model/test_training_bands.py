"""Instruments, effects and places of the generator's band."""

import numpy as np
import pytest

from model.filters import RATE_HZ
from model.training.bands import (
    EFFECTS,
    amplified,
    coloured,
    guitars,
    layered,
    part_sound,
    placed,
    pumped,
    swept,
)
from model.training.score import VOICE_ALONE, compose
from model.training.synth import Note, Patch, hz_of, partials

FRAMES = RATE_HZ + 1


def rng(seed=0):
    return np.random.default_rng(seed)


def tones(*hz, level=0.1):
    t = np.arange(FRAMES) / RATE_HZ
    return np.tile(sum(level * np.sin(2 * np.pi * f * t) for f in hz), (2, 1)).astype(np.float32)


def level_at(sound, hz):
    """Amplitude of one frequency (whole Hz) of one second of sound."""
    return np.abs(np.fft.rfft(sound[0, :RATE_HZ]))[hz] / RATE_HZ * 2


def test_a_string_lacks_the_harmonics_with_a_node_where_it_is_plucked():
    plucked, whole = (partials(110.0, Patch(plucked_at=at), 4000.0) for at in (0.25, 0.0))
    assert plucked[3] < 1e-12 < 0.01 < whole[3]
    assert plucked[1] == pytest.approx(whole[1])


def test_an_amplifier_makes_difference_tones_and_cuts_the_treble():
    sound = amplified(rng(), tones(440, 660))
    assert level_at(sound, 220) > 0.01 * level_at(sound, 440)
    assert level_at(tones(440, 660), 220) < 1e-4
    spectrum = np.abs(np.fft.rfft(sound[0])) ** 2
    assert spectrum[9000:].sum() < 1e-3 * spectrum.sum()
    assert not amplified(rng(), np.zeros((2, 4096), np.float32)).any()


def test_a_swept_filter_moves_over_time_and_keeps_the_place():
    """Noise a little to the left: its spectrum differs from moment to moment, its two sides do not."""
    hiss = np.random.default_rng(1).standard_normal((1, FRAMES)).astype(np.float32)
    sound = np.concatenate([0.1 * hiss, 0.05 * hiss])
    moves = []
    for seed in range(12):
        wet = swept(rng(seed), sound)
        assert wet.shape == sound.shape and wet.dtype == np.float32 and np.isfinite(wet).all()
        assert np.allclose(wet[0], 2.0 * wet[1], atol=1e-5)
        pieces = np.abs(np.fft.rfft(wet[0, : 10 * 4096].reshape(10, 4096))) ** 2
        middles = (pieces * np.arange(pieces.shape[1])).sum(1) / pieces.sum(1)
        moves.append(middles.max() / middles.min())
    assert np.median(moves) > 1.3
    assert not swept(rng(), np.zeros((2, 4096), np.float32)).any()


def test_two_guitars_stand_on_either_side():
    notes = [Note(0.1, 0.8, 48.0), Note(0.1, 0.8, 55.0)]
    sounds = [guitars(rng(seed), notes, FRAMES) for seed in range(8)]
    alike = [np.corrcoef(sound)[0, 1] for sound in sounds]
    assert min(alike) < 0.5 < 0.95 < max(alike)


@pytest.mark.parametrize("kind", ["pad", "lead", "chords", "arpeggio", "strum", "power"])
def test_every_part_sounds_its_notes_and_nothing_before_them(kind):
    for seed in range(4):
        sound = part_sound(rng(seed), kind, [Note(0.5, 0.4, 57.0)], FRAMES)
        assert sound.shape == (2, FRAMES) and sound.dtype == np.float32 and np.isfinite(sound).all()
        assert np.abs(sound).max() > 1e-3
        assert np.abs(sound[:, : FRAMES // 3]).max() < 0.01 * np.abs(sound).max()


def test_layers_are_at_most_an_octave_apart():
    note = Note(0.0, 1.0, 69.0)
    sounds = [layered(rng(seed), "chords", [note], FRAMES) for seed in range(8)]
    assert all(level_at(sound, 440) > 1e-3 for sound in sounds)
    below = [level_at(sound, round(hz_of(57))) / level_at(sound, 440) for sound in sounds]
    assert min(below) < 0.02 < 0.1 < max(below)


@pytest.mark.parametrize("effect", [*EFFECTS, coloured, placed], ids=lambda effect: effect.__name__)
def test_effects_keep_length_and_silence_and_follow_the_seed(effect):
    sound = tones(330, 990)
    for seed in range(6):
        wet = effect(rng(seed), sound)
        assert wet.shape == sound.shape and wet.dtype == np.float32 and np.isfinite(wet).all()
        assert np.array_equal(wet, effect(rng(seed), sound))
        assert not effect(rng(seed), np.zeros_like(sound)).any()
    assert any(np.abs(effect(rng(seed), sound) - sound).max() > 0.01 for seed in range(6))


def test_places_include_the_far_sides_and_wide_ones():
    left = right = turned = kept = 0
    for seed in range(120):
        sound = placed(rng(seed), tones(330, 990))
        power = (sound**2).sum(axis=1)
        left += bool(power[0] > 50 * power[1])
        right += bool(power[1] > 50 * power[0])
        turned += bool(np.corrcoef(sound)[0, 1] < 0)
        kept += np.array_equal(sound, tones(330, 990))
    assert left > 1 and right > 1 and turned > 3 and 60 < kept < 110


def test_pumping_dips_after_each_beat_and_comes_back_without_clicks():
    steady = np.ones((2, FRAMES), np.float32)
    gain = pumped(steady, [0.25, 0.5, 9.0], 0.8, 0.05)
    assert gain[0, : RATE_HZ // 4].min() == pytest.approx(1.0)
    for beat_s in (0.25, 0.5):
        after = gain[0, round((beat_s + 0.005) * RATE_HZ)]
        assert after < 0.35
    assert gain[0, -1] > 0.99
    assert np.abs(np.diff(gain[0])).max() < 0.05
    assert np.array_equal(pumped(steady, [], 0.8, 0.05), steady)


def test_some_sections_are_nothing_but_the_voice_and_some_have_none():
    alone = without = sections = 0
    for seed in range(80):
        score = compose(rng(seed), 20.0)
        section_s = 64 * score.step_s
        band = [*score.hits, *score.bass, *(note for part in score.parts for note in part.notes)]
        playing = {int(event.start_s / section_s + 1e-6) for event in band}
        singing = {int(note.start_s / section_s + 1e-6) for note in score.melody}
        count = int(np.ceil(20.0 / section_s))
        sections += count
        alone += len(singing - playing)
        without += len(playing - singing)
    assert 0.3 * VOICE_ALONE < alone / sections < 3 * VOICE_ALONE
    assert 0.1 < without / sections < 0.4


def test_power_chords_are_fifths_and_octaves():
    chords = [
        {note.pitch for note in part.notes if note.start_s == part.notes[0].start_s}
        for part in (part for seed in range(40) for part in compose(rng(seed), 8.0).parts)
        if part.kind == "power" and part.notes
    ]
    assert len(chords) > 5
    assert all(max(chord) - min(chord) == 12 for chord in chords)
