"""Filters that shift nothing in time, over [..., frames]."""

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]

RATE_HZ = 44_100


def fft_frames(frames: int) -> int:
    """A transform length >= frames that is quick to compute: 2**a times 1, 3, 5 or 9."""
    exponent = max(0, int(np.ceil(np.log2(max(frames, 1)))))
    sizes = [2**exponent] + [m * 2 ** max(0, exponent - s) for m, s in ((3, 2), (5, 3), (9, 4))]
    return int(min(size for size in sizes if size >= frames))


def filtered(
    sound: Audio, gain_of_hz: NDArray[np.float64], knots_hz: NDArray[np.float64], rate_hz: int = RATE_HZ
) -> Audio:
    """Zero-phase filter of sound [..., frames]: gains at knots, interpolated over log frequency.

    Threads: any.
    """
    size = fft_frames(sound.shape[-1] + 512)
    hz = np.maximum(np.fft.rfftfreq(size, 1.0 / rate_hz), 1.0)
    gain = np.interp(np.log2(hz), np.log2(knots_hz), gain_of_hz).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(sound, size) * gain, size)[..., : sound.shape[-1]].astype(np.float32)


def band(sound: Audio, low_hz: float, high_hz: float, rate_hz: int = RATE_HZ) -> Audio:
    """Zero-phase band-pass of sound [..., frames] with edges of a third of an octave. Threads: any."""
    knots = np.array([low_hz / 1.26, low_hz, high_hz, high_hz * 1.26])
    return filtered(sound, np.array([0.0, 1.0, 1.0, 0.0]), knots, rate_hz)
