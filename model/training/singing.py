"""A formant singer: glottal pulses and breath through moving vowel filters, with consonants.

Source and filter as in Fant's model; vowel formants after Peterson and Barney (1952), rounded. The
filter runs on short-time spectra, so a whole phrase costs a few transforms.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.filters import RATE_HZ
from model.training.synth import Audio, Note, Rng, hz_of, phase_of, read_table, wavetable

_HOP = 256
_WINDOW = 1024
_HZ = np.fft.rfftfreq(_WINDOW, 1.0 / RATE_HZ)

VOWELS = {
    "a": (800, 1200, 2600),
    "e": (500, 1850, 2500),
    "i": (300, 2250, 3000),
    "o": (500, 880, 2450),
    "u": (330, 850, 2250),
    "@": (600, 1250, 2400),
}
_FRICATIVES = {
    "s": (5200, 11_000, 0.5),
    "sh": (2400, 7000, 0.5),
    "f": (1200, 12_000, 0.16),
    "h": (700, 5000, 0.12),
}
_PLOSIVES = ("t", "k", "p")
CONSONANTS = ("", "", "l", "m", *_PLOSIVES, *_FRICATIVES)


@dataclass(frozen=True)
class Voice:
    """One singer. `size` scales formants (below 1: a longer throat), `tilt` is the source's slope."""

    size: float = 1.0
    tilt: float = 1.25
    breath: float = 0.05
    vibrato_cents: float = 40.0
    vibrato_hz: float = 5.5
    glide_s: float = 0.07
    scoop_semitones: float = 0.8


@dataclass(frozen=True)
class Syllable:
    """A consonant (may be empty) and a vowel that glides to `end_vowel`."""

    consonant: str = ""
    vowel: str = "a"
    end_vowel: str = "a"


def random_voice(rng: Rng) -> Voice:
    """A singer drawn at random; vibrato spans 50 to 150 cents from peak to peak."""
    return Voice(
        size=rng.uniform(0.86, 1.2),
        tilt=rng.uniform(0.85, 1.5),
        breath=10.0 ** rng.uniform(-2.0, -0.9),
        vibrato_cents=rng.uniform(25, 75),
        vibrato_hz=rng.uniform(4.6, 6.6),
        glide_s=rng.uniform(0.03, 0.13),
        scoop_semitones=rng.uniform(0.0, 2.0),
    )


def random_syllable(rng: Rng) -> Syllable:
    """A consonant and a vowel; one in four vowels glides to another."""
    vowel = str(rng.choice(list(VOWELS)))
    end = str(rng.choice(list(VOWELS))) if rng.random() < 0.25 else vowel
    return Syllable(str(rng.choice(CONSONANTS)), vowel, end)


@dataclass
class _Curves:
    """Control curves of a phrase, one value per hop of 256 frames."""

    pitch: NDArray[np.float64]
    voiced: NDArray[np.float64]
    formants: NDArray[np.float64]
    friction: NDArray[np.float64]


def _smoothed(curve: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    width = max(1, round(seconds * RATE_HZ / _HOP)) | 1
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(curve, [(width // 2, width // 2)] + [(0, 0)] * (curve.ndim - 1), mode="edge")
    columns = padded.reshape(len(padded), -1)
    out = np.stack([np.convolve(c, window / window.sum(), mode="valid") for c in columns.T], axis=1)
    return out.reshape(curve.shape)


def _hop_of(seconds: float) -> int:
    return max(0, round(seconds * RATE_HZ / _HOP))


def _add_consonant(curves: _Curves, consonant: str, start: int, loudness: float) -> None:
    """Friction before the note's hop `start`; plosives close the voice and burst."""
    if consonant in _FRICATIVES:
        low, high, level = _FRICATIVES[consonant]
        curves.friction[max(0, start - 14) : start + 3] += level * loudness * ((low < _HZ) & (high > _HZ))
        curves.voiced[max(0, start - 12) : start + 2] *= 0.1
    elif consonant in _PLOSIVES:
        curves.friction[start : start + 2] += 0.35 * loudness * ((_HZ > 1500) & (_HZ < 8000))
        curves.voiced[max(0, start - 8) : start + 1] = 0.0
    elif consonant in ("m", "l"):
        curves.voiced[max(0, start - 6) : start + 4] *= 0.35


def _curves(rng: Rng, voice: Voice, notes: list[Note], words: list[Syllable], frames: int) -> _Curves:
    hops = frames // _HOP + 1
    curves = _Curves(
        np.full(hops, float(notes[0].pitch)),
        np.zeros(hops),
        np.tile(_formants("@", voice), (hops, 1)),
        np.zeros((hops, len(_HZ))),
    )
    for note, word in zip(notes, words, strict=True):
        start, end = _hop_of(note.start_s), min(hops, _hop_of(note.start_s + note.length_s))
        if end <= start:
            continue
        along = np.linspace(0.0, 1.0, end - start)
        curves.pitch[start:] = note.pitch
        curves.pitch[start : start + _hop_of(0.06)] -= voice.scoop_semitones * rng.random()
        swell = 1.0 - 0.35 * (2 * along - 0.9) ** 2
        curves.voiced[start:end] = note.velocity * swell
        towards = (along[:, None] ** 2) * (_formants(word.end_vowel, voice) - _formants(word.vowel, voice))
        curves.formants[start:end] = _formants(word.vowel, voice) + towards
    for note, word in zip(notes, words, strict=True):
        _add_consonant(curves, word.consonant, _hop_of(note.start_s), note.velocity)
    _add_breath(rng, curves, notes)
    return _refined(rng, voice, curves)


def _add_breath(rng: Rng, curves: _Curves, notes: list[Note]) -> None:
    """Audible inhaling where a rest before a note leaves room for it."""
    end_s = 0.0
    for note in notes:
        if note.start_s - end_s > 0.5 and rng.random() < 0.6:
            first, last = _hop_of(note.start_s - 0.4), _hop_of(note.start_s - 0.08)
            swell = np.hanning(last - first)[:, None] * rng.uniform(0.01, 0.05)
            curves.friction[first:last] += swell * ((_HZ > 900) & (_HZ < 7000))
        end_s = note.start_s + note.length_s


def _refined(rng: Rng, voice: Voice, curves: _Curves) -> _Curves:
    """Smooth the steps into glides and add vibrato (grows into a note), drift and jitter."""
    hops = len(curves.pitch)
    t = np.arange(hops) * _HOP / RATE_HZ
    steps = np.concatenate([[0], np.flatnonzero(np.abs(np.diff(curves.pitch)) > 0.4), [hops]])
    since = np.concatenate([np.arange(b - a) for a, b in pairwise(steps)]) * _HOP / RATE_HZ
    growth = np.clip((since - 0.12) / 0.3, 0.0, 1.0)
    drift = _smoothed(rng.normal(0, 0.6, hops), 0.35)
    jitter = _smoothed(rng.normal(0, 0.12, hops), 0.02)
    rate = voice.vibrato_hz * t + 0.3 * np.cumsum(drift) * _HOP / RATE_HZ
    vibrato = voice.vibrato_cents / 100.0 * growth * np.sin(2 * np.pi * rate)
    pitch = _smoothed(curves.pitch, voice.glide_s) + vibrato + drift * 0.4 + jitter
    shimmer = 1.0 + _smoothed(rng.normal(0, 0.25, hops), 0.03)
    voiced = _smoothed(curves.voiced, 0.05) * shimmer
    return _Curves(pitch, voiced, _smoothed(curves.formants, 0.07), _smoothed(curves.friction, 0.02))


def _formants(vowel: str, voice: Voice) -> NDArray[np.float64]:
    return np.array([*VOWELS[vowel], 3400.0, 4300.0]) * voice.size


def _throat(formants: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain [hops, bins] of parallel resonances with bandwidths of 70 Hz + 5%."""
    gain = np.full((len(formants), len(_HZ)), 0.02)
    for i, level in enumerate((1.0, 0.55, 0.35, 0.3, 0.2)):
        centre = formants[:, i, None]
        gain += level / np.sqrt(1.0 + ((_HZ - centre) / (35.0 + 0.025 * centre)) ** 2)
    return gain


def _frames_of_signal(sound: NDArray[np.float64]) -> NDArray[np.complex128]:
    padded = np.pad(sound, (_WINDOW // 2, _WINDOW))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    return np.asarray(np.fft.rfft(pieces * np.sqrt(np.hanning(_WINDOW + 1)[:-1])))


def _overlap_added(spectra: NDArray[np.complex128], frames: int) -> Audio:
    pieces = np.fft.irfft(spectra) * np.sqrt(np.hanning(_WINDOW + 1)[:-1]) * (2.0 * _HOP / _WINDOW)
    overlap = _WINDOW // _HOP
    grid = np.zeros((len(pieces) + overlap - 1, _HOP))
    for part in range(overlap):
        grid[part : part + len(pieces)] += pieces[:, part * _HOP : (part + 1) * _HOP]
    return grid.reshape(-1)[_WINDOW // 2 :][:frames].astype(np.float32)


def sing(rng: Rng, voice: Voice, notes: list[Note], words: list[Syllable], frames: int) -> Audio:
    """A phrase or a whole song sung by one voice: mono [frames], silent without notes."""
    if not notes:
        return np.zeros(frames, dtype=np.float32)
    curves = _curves(rng, voice, notes, words, frames)
    at, hops_at = np.arange(frames), np.arange(len(curves.pitch)) * _HOP
    hz = np.asarray([hz_of(p) for p in curves.pitch])
    count = int(np.clip(15_000.0 / hz.max(), 8, 250))
    pulse = wavetable(np.arange(1, count + 1.0) ** -voice.tilt)
    level = np.interp(at, hops_at, curves.voiced)
    source = read_table(pulse, phase_of(np.interp(at, hops_at, hz), frames)) * level
    hops = min(len(curves.pitch), len(spectra := _frames_of_signal(source)))
    hiss = rng.standard_normal((hops, len(_HZ))) + 1j * rng.standard_normal((hops, len(_HZ)))
    throat = _throat(curves.formants[:hops])
    breath = voice.breath * curves.voiced[:hops, None] * throat + 0.4 * curves.friction[:hops]
    return _overlap_added(spectra[:hops] * throat + 3.0 * hiss * breath, frames)
