"""Peak meters: the block's peak at once, falling by 20 dB a second.

Threads: written inside the callback, read from anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming.compiled import compiled
from streaming.separator import Audio

FALL_DB_PER_S = 20.0
HIGHEST = 1000.0  # +60 dBFS: from there a meter comes back within seconds


@compiled
def fall_factor(frames: int, sample_rate_hz: int) -> float:
    """What a meter falls to over `frames`."""
    return float(10.0 ** (-FALL_DB_PER_S * frames / sample_rate_hz / 20.0))


@compiled
def meter(peaks: Audio, index: int, block: NDArray[Any], frames: int, fall: float) -> None:
    """Move meter `index` to the peak of `block` [channels, n], or let it fall by `fall`."""
    peak = np.float64(peaks[index] * fall)
    for c in range(block.shape[0]):
        for i in range(frames):
            if abs(block[c, i]) > peak:  # false for NaN
                peak = abs(block[c, i])
    peaks[index] = min(peak, HIGHEST)
