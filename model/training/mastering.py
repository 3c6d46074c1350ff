"""What is done to a finished mix, and to its stems alike: the stems always sum to the treated mix.

Every treatment multiplies stems by gains over time, frequency or both, the same for each of them, or mixes
their two channels alike. The gains follow from the sum of the stems, as those of a mastered record do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from model.filters import RATE_HZ
from model.training.spectra import WINDOW_FRAMES, sound_of, spectra_of
from model.training.synth import Audio, Rng, active_rms, compressor_gain, random_eq

_PEAK_BLOCK, _LOOK_AROUND = 64, 8
_CODED_BANDS = 24


def equalised(rng: Rng, stems: Audio) -> Audio:
    """One smooth random equaliser for all stems [stems, 2, frames]."""
    return random_eq(rng, stems, 5.0)


def glued(rng: Rng, stems: Audio) -> Audio:
    """Bus compression: the sum is measured, all stems follow one gain curve."""
    mixture = stems.sum(axis=0)
    threshold_db = _level_db(mixture) - rng.uniform(0.0, 8.0)
    return stems * compressor_gain(mixture, threshold_db, rng.uniform(1.5, 5.0))


def widened(rng: Rng, stems: Audio) -> Audio:
    """Anything from mono to a side signal 4 dB up."""
    sides = np.float32(rng.choice([0.0, rng.uniform(0.2, 0.8), rng.uniform(1.1, 1.6)]))
    middle = stems.mean(axis=1, keepdims=True)
    return np.asarray(middle + sides * (stems - middle), dtype=np.float32)


def limited(rng: Rng, stems: Audio) -> Audio:
    """A limiter that leaves peaks 3 to 10 dB above the level of loud passages."""
    mixture = stems.sum(axis=0)
    ceiling = 10.0 ** ((_level_db(mixture) + rng.uniform(3.0, 10.0)) / 20.0)
    return stems * limiter_gain(mixture, ceiling)


def limiter_gain(sound: Audio, ceiling: float) -> Audio:
    """Smooth gain [frames] that keeps sound [channels, frames] below the ceiling, 12 ms ahead of peaks."""
    frames = sound.shape[-1]
    peaks = np.pad(np.abs(sound).max(axis=0), (0, -frames % _PEAK_BLOCK)).reshape(-1, _PEAK_BLOCK).max(axis=1)
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    lowest = sliding_window_view(np.pad(needed, _LOOK_AROUND, mode="edge"), 2 * _LOOK_AROUND + 1).min(axis=1)
    # the average reaches one block less far than the minimum, so that it holds between blocks too
    window = np.hanning(2 * _LOOK_AROUND + 1)[1:-1]
    gain = np.convolve(np.pad(lowest, _LOOK_AROUND - 1, mode="edge"), window / window.sum(), mode="valid")
    centres = np.arange(len(gain)) * _PEAK_BLOCK + _PEAK_BLOCK / 2
    return np.asarray(np.interp(np.arange(frames), centres, gain), dtype=np.float32)


def coded(rng: Rng, stems: Audio) -> Audio:
    """What a lossy codec leaves: no treble, and the bins of the sum rounded coarsely, many to nothing."""
    spectra = {i: spectra_of(stem) for i, stem in enumerate(stems) if stem.any()}
    if not spectra:
        return stems
    gains = rounding_gains(rng, np.abs(np.sum(list(spectra.values()), axis=0)))
    result = np.zeros_like(stems)
    for i, spectrum in spectra.items():
        result[i] = sound_of(spectrum * gains, stems.shape[-1])
    return result


def rounding_gains(rng: Rng, magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gains [..., windows, bins] that round magnitudes to steps relative to the level of their band."""
    bins = magnitudes.shape[-1]
    edges = np.unique(np.geomspace(2, bins, _CODED_BANDS).astype(int))
    edges[0] = 0
    widths = np.diff(np.append(edges[:-1], bins))
    level = np.sqrt(np.add.reduceat(magnitudes**2, edges[:-1], axis=-1) / widths)
    finest_db, coarsest_db = rng.uniform(12.0, 24.0), rng.uniform(-3.0, 8.0)
    steps = level * 10.0 ** (-np.linspace(finest_db, coarsest_db, len(widths)) / 20.0)
    step = np.repeat(steps, widths, axis=-1) + 1e-9
    gains = np.minimum(np.round(magnitudes / step) * step / (magnitudes + 1e-9), 2.0)
    gains[..., int(rng.uniform(11_000, 17_000) * WINDOW_FRAMES / RATE_HZ) :] = 0.0
    return np.asarray(gains, dtype=np.float32)


def _level_db(sound: Audio) -> float:
    return float(20.0 * np.log10(max(active_rms(sound), 1e-5)))


CHAIN: tuple[tuple[Callable[[Rng, Audio], Audio], float], ...] = (
    (equalised, 0.25), (glued, 0.3), (widened, 0.12), (limited, 0.25), (coded, 0.12)
)  # fmt: skip
"""The treatments in their order, each with its chance."""


def mastered(rng: Rng, stems: Audio) -> Audio:
    """Stems [stems, 2, frames] as a mastered and perhaps coded record holds them; silence stays silence."""
    for treatment, chance in CHAIN:
        if rng.random() < chance:
            stems = treatment(rng, stems)
    return stems
