"""The last gain before the speaker: nothing leaves above the ceiling, nothing below it is touched.

Channel-linked peak limiter with instantaneous attack and a linear release. Its look-ahead is 0 frames, which
its line in the latency budget says. The gain is exactly 1 unless a peak is above the ceiling or the release
of one is still running.

Threads: inside the callback.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from streaming.compiled import compiled

LOOKAHEAD_FRAMES = 0
CEILING = 1.0
RELEASE_S = 0.1


@compiled
def drop_nonfinite(block: NDArray[np.float64], i: int) -> bool:
    """Make each non-finite sample of frame `i` 0; whether there was one."""
    found = False
    for c in range(block.shape[0]):
        if not math.isfinite(block[c, i]):
            block[c, i] = 0.0
            found = True
    return found


@compiled
def frame_peak(block: NDArray[np.float64], i: int) -> float:
    """The peak of frame `i` over all channels."""
    peak = 0.0
    for c in range(block.shape[0]):
        peak = max(peak, abs(block[c, i]))
    return peak


@compiled
def limit(
    gain: float, ceiling: float, release_per_frame: float, block: NDArray[np.float64], frames: int
) -> tuple[float, bool]:
    """Limit `block` [channels, frames] in place, starting from `gain`; a non-finite sample becomes 0.

    Returns the gain it ends with, and whether it acted.
    """
    acted = False
    for i in range(frames):
        acted = drop_nonfinite(block, i) or acted
        peak = frame_peak(block, i)
        gain = min(1.0, gain + release_per_frame)
        if peak * gain > ceiling:
            gain = ceiling / peak
        if gain < 1.0:
            acted = True
            for c in range(block.shape[0]):
                # The product may round above the ceiling.
                block[c, i] = min(max(block[c, i] * gain, -ceiling), ceiling)
    return gain, acted
