"""The last gain before the speaker: nothing leaves above the ceiling, nothing below it is touched.

Channel-linked peak limiter with instantaneous attack and a linear release. Its look-ahead is 0 frames, which
its line in the latency budget says. The gain is exactly 1 unless a peak is above the ceiling or the release
of one is still running.

Threads: inside the callback.
"""

from __future__ import annotations

import math

from streaming.compiled import compiled

LOOKAHEAD_FRAMES = 0
CEILING = 1.0
RELEASE_S = 0.1


@compiled
def limit(gain, ceiling, release_per_frame, block, frames):  # type: ignore[no-untyped-def]
    """Limit `block` [channels, frames] float64 in place; `gain` [1] carries over. Returns 1 if it acted.

    A non-finite sample becomes 0.
    """
    acted = 0
    g = gain[0]
    for i in range(frames):
        peak = 0.0
        for c in range(block.shape[0]):
            if not math.isfinite(block[c, i]):
                block[c, i] = 0.0
                acted = 1
            peak = max(peak, abs(block[c, i]))
        g = min(1.0, g + release_per_frame)
        if peak * g > ceiling:
            g = ceiling / peak
        if g < 1.0:
            acted = 1
            for c in range(block.shape[0]):
                block[c, i] = min(max(block[c, i] * g, -ceiling), ceiling)
    gain[0] = g
    return acted
