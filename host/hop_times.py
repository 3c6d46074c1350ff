"""How long a separator takes for a hop on this machine: what profiles and allowances follow from."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from streaming.separator import Separator

CHANNELS = 2


def time_hops(separator: Separator, hops: int, paced: bool) -> NDArray[np.float64]:
    """Seconds of every hop, of noise; `paced` waits for each hop's turn as live audio does.

    Paced hops take longer: caches cool and clocks drop in between. Threads: that of `warm_up`.
    """
    hop_s = separator.hop_frames / separator.sample_rate_hz
    shape = (CHANNELS, separator.hop_frames)
    audio = 0.1 * np.random.default_rng(0).standard_normal((100, *shape)).astype(np.float32)
    stems = np.empty((len(separator.stem_names), *shape), dtype=np.float32)
    seconds = np.empty(hops)
    origin = time.perf_counter()
    for hop in range(hops):
        if paced:
            time.sleep(max(0.0, origin + hop * hop_s - time.perf_counter()))
        start = time.perf_counter()
        separator.separate(audio[hop % 100], stems)
        seconds[hop] = time.perf_counter() - start
    return seconds


def summary(seconds: NDArray[np.float64], hop_s: float) -> dict[str, float]:
    """p50, p99, p99.9 and maximum in ms and as load, which is compute time over hop duration."""
    ms = {f"p{q:g}": float(np.percentile(seconds, q) * 1e3) for q in (50, 99, 99.9)}
    ms["max"] = float(seconds.max() * 1e3)
    figures = {f"{name}_ms": value for name, value in ms.items()}
    return figures | {f"load_{name}": value / (hop_s * 1e3) for name, value in ms.items()}
