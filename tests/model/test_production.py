"""What producers do to a voice keeps its length, its silence and its rhythm, and is the same for a seed."""

import numpy as np
import pytest

from model.training.production import TREATMENTS, doubled, other_throat, produced, vocoded

FRAMES = 3 * 11025


def voice():
    """A tone that sounds in the second third only, a little to the left."""
    t = np.arange(FRAMES) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 220 * t) + 0.1 * np.sin(2 * np.pi * 880 * t)
    tone[: FRAMES // 3] = tone[-FRAMES // 3 :] = 0.0
    return np.stack([tone, 0.8 * tone]).astype(np.float32)


@pytest.mark.parametrize("treatment", (*TREATMENTS, doubled), ids=lambda treatment: treatment.__name__)
def test_every_treatment_changes_a_voice_and_nothing_before_it(treatment):
    dry = voice()
    wet = treatment(np.random.default_rng(1), dry)
    assert wet.shape == dry.shape and wet.dtype == np.float32 and np.isfinite(wet).all()
    assert np.abs(wet - dry).max() > 0.01
    assert np.abs(wet[:, : FRAMES // 3 - 2048]).max() < 0.02 * np.abs(wet).max()


def test_doubled_sides_are_less_alike_than_the_voice_was():
    wide = doubled(np.random.default_rng(3), voice())
    assert np.corrcoef(voice())[0, 1] > 0.99
    assert abs(np.corrcoef(wide)[0, 1]) < 0.9


def test_a_vocoder_speaks_with_the_envelope_of_the_voice():
    low, high = voice(), np.random.default_rng(0).standard_normal((2, FRAMES)).astype(np.float32) * 0.1

    def treble(sound):
        power = np.abs(np.fft.rfft(vocoded(np.random.default_rng(2), sound)[0])) ** 2
        return power[FRAMES * 4000 // 44_100 :].sum() / power.sum()

    assert treble(low) < 0.05 < 0.3 < treble(high)


@pytest.mark.parametrize("seed", range(4))
def test_another_throat_moves_formants_and_keeps_the_pitch(seed):
    """A buzz of 110 Hz with a formant at 1 kHz: the harmonics stay, the hill over them moves by the ratio."""
    t, harmonics = np.arange(2 * 44_100) / 44_100, np.arange(110, 4000, 110)
    hill = 0.02 + np.exp(-(((harmonics - 1000) / 350.0) ** 2))
    buzz = np.repeat(
        0.02 * np.sum(hill[:, None] * np.sin(2 * np.pi * harmonics[:, None] * t), axis=0)[None], 2, 0
    )
    ratio = 2.0 ** np.random.default_rng(seed).uniform(-0.32, 0.32)
    moved = other_throat(np.random.default_rng(seed), buzz.astype(np.float32))
    spectrum = np.abs(np.fft.rfft(moved[0, 22_050:66_150]))
    on_pitch = spectrum[harmonics]
    assert np.square(on_pitch).sum() > 0.95 * np.square(spectrum).sum()
    centre = (harmonics * on_pitch**2).sum() / (on_pitch**2).sum()
    assert centre == pytest.approx(1000 * ratio, rel=0.08)
    assert not other_throat(np.random.default_rng(seed), np.zeros((2, 8192), np.float32)).any()


def test_produced_is_the_same_for_a_seed_and_keeps_silence():
    first, second, other = (produced(np.random.default_rng(seed), voice()) for seed in (3, 3, 4))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert not produced(np.random.default_rng(0), np.zeros((2, 8192), np.float32)).any()
