"""Ramps and equal-gain cross-fades.

Cross-fades are written `a + f * (b - a)`: identical inputs come out identical to the bit, and the gains of
the two sides always sum to one.
"""

import numpy as np
import numpy.typing as npt

from streaming.compiled import compiled


def linear_ramp(frames: int) -> npt.NDArray[np.float32]:
    """Rising line (i + 1/2) / frames, float32 [frames]; ramp + reversed ramp = 1. Threads: any."""
    return ((np.arange(frames) + 0.5) / max(frames, 1)).astype(np.float32)


@compiled
def blend(a: float, b: float, fraction: float) -> float:
    """`a` at fraction 0, `b` at 1. Threads: any, compiled code too."""
    return a + fraction * (b - a)
