"""The project's own songs: composed, synthesised and mixed from a seed, as four exact stems.

`song(seed, index, seconds)` gives training and test material; `demo_song()` the song bundled with the
project. Stems are vocals, drums, bass, other; their sum is the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from model.filters import RATE_HZ
from model.training.bands import bass_patch, bass_sound, coloured, part_sound, placed, pumped
from model.training.drums import sequence, synthetic_kit
from model.training.score import Part, Score, compose
from model.training.singing import random_syllable, random_voice, sing
from model.training.synth import (
    Audio,
    Note,
    Patch,
    Rng,
    compressed,
    driven,
    echoed,
    frames_of,
    levelled,
    panned,
    play,
    random_eq,
    reverberated,
    room,
)

STEM_NAMES = ("vocals", "drums", "bass", "other")
PUMPING = 0.25
UNSEEN_SEED = 9_000_001
"""Seed of the synthesised test songs; no training may take it."""


def bass_line(rng: Rng, frames: int) -> Audio:
    """A bass line by itself: any bass, a sub-bass below 65 Hz gated or held, or sparse booms: [2, frames].

    Booms often lie under another bass; only the missing click tells one from a kick.
    """
    kind = rng.choice(["any", "sub", "boom"], p=[0.25, 0.35, 0.4])
    if kind == "any":
        return _line(rng, bass_patch(rng), int(rng.integers(23, 41)), 0.85, frames)
    if kind == "sub":
        patch = replace(bass_patch(rng), slope=2.0, cutoff_hz=rng.uniform(50, 150))
        return _line(rng, patch, int(rng.integers(23, 34)), 0.85, frames)
    boom = Patch(slope=3.0, cutoff_hz=60.0, attack_s=rng.uniform(0.003, 0.02), decay_s=rng.uniform(0.06, 0.4))
    sound = levelled(_line(rng, boom, int(rng.integers(19, 32)), 0.5, frames), -18.0)
    if rng.random() < 0.6:
        above = _line(rng, bass_patch(rng), int(rng.integers(28, 45)), 0.7, frames)
        sound += levelled(above, -18.0 - rng.uniform(6, 22))
    return sound


def _line(rng: Rng, patch: Patch, root: int, density: float, frames: int) -> Audio:
    """Notes on a grid of steps, `density` of them sounding."""
    step_s = rng.uniform(0.09, 0.2)
    notes, at_s = [], -rng.uniform(0.0, 2.0) * step_s
    while at_s < frames / RATE_HZ:
        length_s = step_s * float(rng.choice([1, 2, 2, 3, 4, 8, 16]))
        pitch = root + int(rng.choice([0, 0, 0, 3, 5, 7, -2]))
        if rng.random() < density:
            notes.append(Note(at_s, length_s * rng.uniform(0.5, 1.0), pitch, rng.uniform(0.7, 1.0)))
        at_s += length_s
    return play(rng, patch, notes, frames)


def vocals(rng: Rng, melody: list[Note], frames: int) -> Audio:
    """The melody sung by a random voice, sometimes doubled or with a second part, with its effects."""
    words = [random_syllable(rng) for _ in melody]
    voice = random_voice(rng)
    sound = panned(sing(rng, voice, melody, words, frames), rng.uniform(-0.15, 0.15))
    if rng.random() < 0.35:
        shift = float(rng.choice([0, 0, 3, 4, 7, -5]))
        second = [replace(note, pitch=note.pitch + shift) for note in melody]
        other = replace(voice, size=voice.size * rng.uniform(0.95, 1.05))
        sound += panned(sing(rng, other, second, words, frames), rng.uniform(-0.8, 0.8)) * np.float32(
            rng.uniform(0.3, 0.8)
        )
    return _vocal_effects(rng, sound)


def _vocal_effects(rng: Rng, sound: Audio) -> Audio:
    sound = compressed(levelled(random_eq(rng, sound, 5.0), -18.0), -24.0, rng.uniform(1.5, 4.0))
    if rng.random() < 0.3:
        sound = echoed(sound, rng.uniform(0.12, 0.45), rng.uniform(0.2, 0.5), rng.uniform(0.1, 0.35))
    return reverberated(sound, room(rng, rng.uniform(0.4, 2.5)), rng.uniform(0.02, 0.25))


def ensemble(rng: Rng, parts: list[Part], play_part: Callable[[Part], Audio], frames: int) -> Audio:
    """All parts of `other`, each with its own equaliser, effects and place, in one room: [2, frames]."""
    sound = np.zeros((2, frames), dtype=np.float32)
    for part in parts:
        played = placed(rng, coloured(rng, random_eq(rng, play_part(part), 4.0)))
        sound += levelled(played, rng.uniform(-26, -18) - (4.0 if part.kind == "pad" else 0.0))
    return reverberated(sound, room(rng, rng.uniform(0.4, 2.0)), rng.uniform(0.02, 0.25))


def drum_track(rng: Rng, sound: Audio) -> Audio:
    """Bus processing of a drum track: equaliser, saturation, compression, a small room."""
    sound = driven(levelled(random_eq(rng, sound, 3.0), -16.0), rng.uniform(0.3, 2.5))
    sound = compressed(sound, -20.0, rng.uniform(1.0, 3.0))
    return reverberated(sound, room(rng, rng.uniform(0.15, 0.8)), rng.uniform(0.0, 0.12))


def render(rng: Rng, score: Score) -> Audio:
    """All stems of a score, balanced at random around a usual mix: [4, 2, frames]."""
    frames = frames_of(score.seconds)
    stems = [
        vocals(rng, [note for note in score.melody if note.start_s < score.seconds - 0.2], frames),
        drum_track(rng, sequence(rng, synthetic_kit(rng), score.hits, frames)),
        random_eq(rng, bass_sound(rng, score.bass, frames), 3.0),
        ensemble(rng, score.parts, lambda part: part_sound(rng, part.kind, part.notes, frames), frames),
    ]
    return mixed(rng, ducked(rng, stems, score))


def ducked(rng: Rng, stems: list[Audio], score: Score) -> list[Audio]:
    """Stems with, in some songs, bass and other turned down at every stroke of the bass drum."""
    if rng.random() >= PUMPING:
        return stems
    kicks = [hit.start_s for hit in score.hits if hit.drum == "kick"]
    depth, release_s = rng.uniform(0.3, 0.95), rng.uniform(0.05, 0.2)
    return [*stems[:2], *(pumped(stem, kicks, depth, release_s) for stem in stems[2:])]


def mixed(rng: Rng, stems: list[Audio]) -> Audio:
    """Stems at usual levels +- a few dB, scaled together where the sum would pass -1 dBFS."""
    levels = np.array([-20.0, -20.0, -22.0, -21.0]) + rng.uniform(-3.5, 3.5, 4)
    balanced = np.stack([levelled(stem, level) for stem, level in zip(stems, levels, strict=True)])
    return under_ceiling(balanced)


def under_ceiling(stems: Audio, ceiling_db: float = -1.0) -> Audio:
    """Stems [4, 2, frames] scaled together so that their sum peaks at most at the ceiling."""
    peak = float(np.abs(stems.sum(axis=0)).max())
    return stems * np.float32(min(1.0, 10.0 ** (ceiling_db / 20.0) / max(peak, 1e-9)))


def song(seed: int, index: int, seconds: float) -> Audio:
    """Song number `index` of a seed: stems [4, 2, frames], the same to the bit on every call."""
    rng = np.random.default_rng((seed, index))
    return render(rng, compose(rng, seconds))
