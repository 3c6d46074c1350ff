"""The instruments of a band: synthesised parts, guitars through amplifiers, layers, effects and places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from model.filters import RATE_HZ, filtered
from model.training.spectra import HOP_FRAMES, WINDOW_FRAMES, sound_of, spectra_of
from model.training.synth import (
    Audio,
    Note,
    Patch,
    Rng,
    driven,
    echoed,
    frames_of,
    levelled,
    panned,
    play,
)

DISTORTED_BASS = 0.25
LAYERED = 0.3
PLUCKED = 0.4
TWO_GUITARS = 0.6


def pad_patch(rng: Rng) -> Patch:
    """Three slow, detuned voices."""
    return Patch(
        slope=rng.uniform(0.8, 1.4),
        cutoff_hz=rng.uniform(600, 2500),
        brightness=1.0,
        attack_s=rng.uniform(0.1, 0.5),
        decay_s=20.0,
        release_s=0.5,
        voices=3,
        detune_cents=rng.uniform(4, 18),
        width=0.9,
    )


def lead_patch(rng: Rng) -> Patch:
    """A solo sound with some vibrato."""
    return Patch(
        slope=rng.uniform(0.7, 1.5),
        cutoff_hz=rng.uniform(1200, 6000),
        even=rng.uniform(0, 1),
        attack_s=rng.uniform(0.01, 0.06),
        decay_s=rng.uniform(0.8, 6.0),
        release_s=0.1,
        voices=int(rng.integers(1, 3)),
        detune_cents=rng.uniform(2, 10),
        vibrato_cents=rng.uniform(0, 35),
    )


def keys_patch(rng: Rng) -> Patch:
    """Anything struck, from an organ to a marimba."""
    return Patch(
        slope=rng.uniform(0.6, 1.8),
        cutoff_hz=rng.uniform(500, 4000),
        brightness=rng.uniform(1.5, 5.0),
        bright_s=rng.uniform(0.03, 0.4),
        even=rng.uniform(0.1, 1.0),
        attack_s=rng.uniform(0.002, 0.02),
        decay_s=rng.uniform(0.15, 2.0),
        voices=int(rng.integers(1, 3)),
        detune_cents=rng.uniform(1, 8),
        width=rng.uniform(0.1, 0.9),
    )


def string_patch(rng: Rng) -> Patch:
    """A plucked string: bright at first, without the harmonics that have a node where it is plucked."""
    return Patch(
        slope=rng.uniform(0.5, 1.1),
        cutoff_hz=rng.uniform(700, 2500),
        brightness=rng.uniform(3.0, 8.0),
        bright_s=rng.uniform(0.04, 0.25),
        plucked_at=rng.uniform(0.08, 0.4),
        attack_s=0.001,
        decay_s=10.0 ** rng.uniform(-1.0, 0.4),
        width=0.1,
    )


def bass_patch(rng: Rng) -> Patch:
    """A random bass: sub, finger-like, saw or a detuned pair."""
    return Patch(
        slope=rng.uniform(0.7, 2.2),
        cutoff_hz=10.0 ** rng.uniform(1.9, 3.2),
        brightness=rng.uniform(1.0, 4.0),
        bright_s=rng.uniform(0.03, 0.3),
        even=rng.uniform(0.3, 1.0),
        attack_s=rng.uniform(0.003, 0.02),
        decay_s=rng.uniform(0.3, 5.0),
        release_s=0.05,
        voices=int(rng.choice([1, 1, 2])),
        detune_cents=rng.uniform(3, 14),
        width=0.1,
    )


_PATCHES = {"pad": pad_patch, "lead": lead_patch, "power": string_patch}


def part_patch(rng: Rng, kind: str) -> Patch:
    """A random instrument fit for a kind of part."""
    if kind in ("arpeggio", "strum") and rng.random() < PLUCKED:
        return string_patch(rng)
    return _PATCHES.get(kind, keys_patch)(rng)


def part_sound(rng: Rng, kind: str, notes: list[Note], frames: int) -> Audio:
    """A part of `other` on a random instrument, on layers of them, or on guitars: [2, frames]."""
    if kind == "power":
        return guitars(rng, notes, frames)
    if rng.random() < LAYERED:
        return layered(rng, kind, notes, frames)
    return play(rng, part_patch(rng, kind), notes, frames)


def layered(rng: Rng, kind: str, notes: list[Note], frames: int) -> Audio:
    """Two instruments on the same notes, or an octave apart: [2, frames]."""
    shift = float(rng.choice([0, 12, 12, -12]))
    above = [replace(note, pitch=note.pitch + shift) for note in notes]
    first = levelled(play(rng, part_patch(rng, kind), notes, frames), -20.0)
    return first + levelled(play(rng, part_patch(rng, kind), above, frames), -20.0 - rng.uniform(0, 10))


def guitars(rng: Rng, notes: list[Note], frames: int) -> Audio:
    """Chords through an overdriven amplifier, often played twice and hard to either side: [2, frames]."""
    patch, sides = string_patch(rng), rng.uniform(0.6, 1.0)
    positions = (-sides, sides) if rng.random() < TWO_GUITARS else (rng.uniform(-0.5, 0.5),)
    sound = np.zeros((2, frames), dtype=np.float32)
    for position in positions:
        take = [replace(note, start_s=max(0.0, note.start_s + rng.normal(0, 0.004))) for note in notes]
        sound += panned(amplified(rng, play(rng, patch, take, frames))[0], position)
    return sound


def amplified(rng: Rng, sound: Audio) -> Audio:
    """Sound [2, frames], summed, through an overdriven amplifier and its speaker: no lows, no treble."""
    hot = driven(levelled(sound.mean(axis=0, keepdims=True), -20.0), 10.0 ** rng.uniform(0.8, 2.0))
    knots = np.array([50.0, 100.0, 400.0, 1200.0, 3000.0, 5000.0, 8500.0])
    gains = np.array([0.0, *rng.uniform([0.6, 0.3, 0.5, 0.8, 0.2], [1.2, 1.0, 1.0, 2.0, 0.8]), 0.02])
    return np.repeat(filtered(hot, gains, knots), 2, axis=0)


def bass_sound(rng: Rng, notes: list[Note], frames: int) -> Audio:
    """A bass line on a random bass, sometimes distorted: [2, frames]."""
    sound = play(rng, bass_patch(rng), notes, frames)
    if rng.random() >= DISTORTED_BASS:
        return sound
    return driven(levelled(sound, -20.0), 10.0 ** rng.uniform(0.5, 1.5))


def _chorused(rng: Rng, sound: Audio) -> Audio:
    """A second copy whose delay swings by a few milliseconds, each side in its own time."""
    at = np.arange(sound.shape[-1])
    wet = np.empty_like(sound)
    for side, channel in enumerate(sound):
        swing = np.sin(2 * np.pi * (rng.uniform(0.2, 1.5) * at / RATE_HZ + rng.random()))
        delay = RATE_HZ * (0.012 + 0.004 * rng.random() * swing)
        wet[side] = np.interp(at - delay, at, channel, left=0.0)
    return sound + wet


def _tremolo(rng: Rng, sound: Audio) -> Audio:
    """The level swings, both sides together or against each other."""
    t = np.arange(sound.shape[-1]) / RATE_HZ
    lag = np.array([[0.0], [rng.choice([0.0, 0.5])]])
    swing = np.sin(2 * np.pi * (rng.uniform(1.0, 8.0) * t + lag))
    return np.asarray(sound * (1.0 - rng.uniform(0.2, 0.5) * (1.0 + swing)), dtype=np.float32)


def _driven(rng: Rng, sound: Audio) -> Audio:
    return driven(levelled(sound, -20.0), 10.0 ** rng.uniform(0.3, 1.3))


def _echoed(rng: Rng, sound: Audio) -> Audio:
    return echoed(sound, rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.5))


EFFECTS: tuple[Callable[[Rng, Audio], Audio], ...] = (_chorused, _tremolo, _driven, _echoed)


def coloured(rng: Rng, sound: Audio) -> Audio:
    """A part [2, frames] after an effect or two, or after none."""
    for effect in EFFECTS:
        if rng.random() < 0.12:
            sound = effect(rng, sound)
    return sound


def swept(rng: Rng, sound: Audio) -> Audio:
    """Sound [2, frames] through a synthesiser's resonant filter that swings, steps or falls.

    Its peak moves as a formant does, and nobody sings.
    """
    spectra = spectra_of(sound)
    windows, bins = spectra.shape[-2:]
    t = np.arange(windows) * HOP_FRAMES / RATE_HZ
    hz, start = 10.0 ** rng.uniform(-0.7, 0.9), rng.random()
    turn = hz * t + start
    paths = (
        np.sin(2 * np.pi * turn),
        rng.uniform(-1, 1, int(turn[-1]) + 2)[turn.astype(int)],
        2.0 * np.exp(-3.0 * (turn % 1.0)) - 1.0,
    )
    centre_hz = 10.0 ** rng.uniform(2.5, 3.5)
    peak_hz = centre_hz * 2.0 ** (rng.uniform(0.3, 1.5) * paths[rng.integers(3)])
    x = np.arange(bins) * RATE_HZ / WINDOW_FRAMES / peak_hz[:, None]
    width = x / rng.uniform(1.0, 6.0)
    passed = width if rng.random() < 0.4 else 1.0
    gains = passed / np.sqrt((1.0 - x**2) ** 2 + width**2 + 1e-6)
    return sound_of(spectra * gains.astype(np.float32), sound.shape[-1])


def placed(rng: Rng, sound: Audio) -> Audio:
    """A sound [2, frames] where it was, or hard to one side, or wide: one side late or turned over."""
    chance = rng.random()
    if chance < 0.12:
        return panned(sound.mean(axis=0), rng.uniform(0.85, 1.0) * rng.choice([-1.0, 1.0]))
    if chance < 0.22:
        late = frames_of(rng.uniform(0.003, 0.025))
        return np.stack([sound[0], np.pad(sound[1], (late, 0))[: sound.shape[-1]]])
    if chance < 0.27:
        return np.stack([sound[0], -sound[1]])
    return sound


def pumped(sound: Audio, beats_s: list[float], depth: float, release_s: float) -> Audio:
    """Sound [2, frames] turned down at each beat and back up: side-chain compression by the kick."""
    at = np.arange(sound.shape[-1])
    last = np.full(sound.shape[-1], -RATE_HZ * 60)
    beats = np.array([frames_of(s) for s in beats_s if frames_of(s) < sound.shape[-1]], dtype=int)
    last[beats] = beats
    since_s = (at - np.maximum.accumulate(last)) / RATE_HZ
    dip = np.exp(-since_s / release_s) * np.minimum(since_s / 0.005, 1.0)  # 5 ms down: no clicks
    return np.asarray(sound * (1.0 - depth * dip), dtype=np.float32)
