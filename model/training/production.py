"""What producers do to a voice: drive, telephone bands, echoes, harmonies by vocoder, another throat. A voice
it stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.filters import RATE_HZ, band
from model.training.spectra import sound_of, spectra_of
from model.training.synth import (
    Audio,
    Rng,
    add_at,
    compressed,
    driven,
    echoed,
    hz_of,
    levelled,
    noise,
    phase_of,
)

_BANDS = 28
_ENVELOPE_S = 0.0011
"""Cepstrum up to here is throat, above it pitch (of anyone who sings below 900 Hz)."""


def vocoded(rng: Rng, voice: Audio) -> Audio:
    """A chord of saws (and some noise) with the voice's spectral envelope: [2, frames]."""
    frames = voice.shape[-1]
    root = rng.uniform(34, 58)
    chord = root + np.array([0.0, rng.choice([0.0, 3.0, 4.0, 12.0]), rng.choice([0.0, 7.0, 12.0])])
    glide = np.repeat(rng.choice([0.0, 0.0, 2.0, -2.0, 5.0], 4), -(-frames // 4))[:frames] / 12.0
    saws = [phase_of(hz_of(p) * 2.0**glide, frames, rng.random()) - 0.5 for p in chord]
    carrier = np.sum(saws, axis=0).astype(np.float32) + 0.1 * noise(rng, frames)[0]
    mine, theirs = spectra_of(voice.mean(axis=0)), spectra_of(carrier)
    edges = np.unique(np.geomspace(3, mine.shape[1], _BANDS).astype(int))
    edges[0], edges[-1] = 0, mine.shape[1]
    power, own = (np.add.reduceat(np.abs(s) ** 2, edges[:-1], axis=1) for s in (mine, theirs))
    gains = np.repeat(np.sqrt(power / (own + 1e-9)), np.diff(edges), axis=1)
    return np.repeat(sound_of(theirs * gains, frames)[None], 2, axis=0)


def other_throat(rng: Rng, voice: Audio) -> Audio:
    """The same song from a longer or shorter throat: formants moved by up to a quarter, the pitch kept.

    The envelope is the log spectrum smoothed by its cepstrum. Few singers are at hand; this makes many.
    """
    ratio = 2.0 ** rng.uniform(-0.32, 0.32)
    spectra = spectra_of(voice)
    cepstrum = np.fft.irfft(np.log(np.abs(spectra) + 1e-6))
    kept = int(_ENVELOPE_S * RATE_HZ)
    cepstrum[..., kept : 1 - kept] = 0.0
    envelope = np.fft.rfft(cepstrum).real
    at = np.minimum(np.arange(envelope.shape[-1]) / ratio, envelope.shape[-1] - 1.001)
    below, part = at.astype(int), at % 1.0
    moved = envelope[..., below] * (1.0 - part) + envelope[..., below + 1] * part
    gains = np.exp(np.clip(moved - envelope, -2.5, 2.5)).astype(np.float32)
    return sound_of(spectra * gains, voice.shape[-1])


def _harmonised(rng: Rng, voice: Audio) -> Audio:
    return voice + levelled(vocoded(rng, voice), -20.0 + rng.uniform(-8, 3))


def _telephone(rng: Rng, voice: Audio) -> Audio:
    return driven(band(voice, rng.uniform(200, 500), rng.uniform(2500, 5000)), rng.uniform(1, 8))


def _driven(rng: Rng, voice: Audio) -> Audio:
    return driven(voice, rng.uniform(4, 30))


def _echoed(rng: Rng, voice: Audio) -> Audio:
    return echoed(voice, rng.uniform(0.08, 0.5), rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.6))


def _widened(rng: Rng, voice: Audio) -> Audio:
    """Two copies a few milliseconds apart, one on each side."""
    wide = voice.copy()
    for side in range(2):
        delay = int(rng.uniform(0.005, 0.03) * RATE_HZ)
        wide[side, delay:] += 0.8 * voice[1 - side, : voice.shape[-1] - delay]
    return wide


def doubled(rng: Rng, voice: Audio) -> Audio:
    """As if sung twice and panned apart: each side its own slowly wandering copy, some of the voice between.

    Sides end up all but uncorrelated, as in a chorus or a stack of takes. A wide sound may be a voice.
    """
    frames = voice.shape[-1]
    at = np.arange(frames)
    wide = voice * np.float32(rng.uniform(0.0, 0.9))
    for side in range(2):
        hz, depth_s = rng.uniform(0.1, 0.9), rng.uniform(0.0008, 0.005)
        wander_s = depth_s * np.sin(2 * np.pi * (hz * at / RATE_HZ + rng.random()))
        back = (rng.uniform(0.006, 0.03) + wander_s) * RATE_HZ
        wide[side] += np.interp(at - back, at, voice[int(rng.integers(2))]).astype(np.float32)
    return wide


def chopped(rng: Rng, voice: Audio) -> Audio:
    """A few slices of the voice, played again and again on a grid, as in dance music."""
    frames, step = voice.shape[-1], int(rng.uniform(0.08, 0.4) * RATE_HZ)
    loud = np.flatnonzero(np.abs(voice).max(axis=0) > 0.2 * np.abs(voice).max())
    if len(loud) == 0:
        return voice
    starts = rng.choice(loud, int(rng.integers(1, 4)))
    chops, at = np.zeros_like(voice), int(rng.integers(step))
    while at < frames:
        start, length = int(rng.choice(starts)), int(step * rng.choice([1, 1, 2]) * rng.uniform(0.5, 1.0))
        if rng.random() < 0.75:
            add_at(chops, at, softened(voice[:, start : start + length]))
        at += step * int(rng.choice([1, 1, 2, 4]))
    return chops


def softened(sound: Audio) -> Audio:
    """Without a click at either end: 4 ms of fade."""
    ramp = np.minimum(np.arange(1, sound.shape[-1] + 1) / (0.004 * RATE_HZ), 1.0)
    return (sound * ramp * ramp[::-1]).astype(np.float32)


def _squashed(rng: Rng, voice: Audio) -> Audio:
    return compressed(voice, -38.0, rng.uniform(4, 12))


TREATMENTS: tuple[Callable[[Rng, Audio], Audio], ...] = (
    vocoded, _harmonised, _telephone, _driven, _echoed, _widened, _squashed
)  # fmt: skip


def produced(rng: Rng, voice: Audio) -> Audio:
    """A voice [2, frames] after one to three treatments, at -20 dBFS; silence stays silence."""
    for index in rng.choice(len(TREATMENTS), size=int(rng.integers(1, 4)), replace=False):
        voice = levelled(TREATMENTS[index](rng, levelled(voice, -20.0)), -20.0)
    return voice
