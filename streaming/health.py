"""What the running engine tells about itself: counters in shared memory, each written by one process only.

Every role has a row of int64 words; the names below are the columns. Readers see each number whole.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.segment import Field, Segment
from streaming.snapshot import STRIPS

# rows
CALLBACK, SEPARATOR, PLUGINS, CONTROL = range(4)
ROLES = {"callback": CALLBACK, "separator": SEPARATOR, "plugins": PLUGINS, "control": CONTROL}

# columns of the callback's row
FRAME = 0  # the next absolute frame
BLOCKS = 1
LATE_HOPS = 2  # hops of which at least one frame was missing
MISSING_FRAMES = 3  # frames at which at least one stem was not there when it was due
XRUNS = 4  # blocks that the device flagged
NONFINITE_IN = 5  # input samples that were NaN or infinite
LIMITED_BLOCKS = 6
BLOCK_MIN = 7
BLOCK_MAX = 8
EPOCH = 9  # the epoch that is being played
SILENT = 10  # 1 while the master fade is fully closed

# columns of every other role's row
HEARTBEAT_NS = 0
HOPS = 1
INVALID_HOPS = 2  # hops thrown away because they held non-finite samples
JOINS = 3

WORDS = 16
HOP_RING = 8192

# rows of `peaks` behind the strips
PEAK_OUTPUT = STRIPS
PEAK_INPUT = STRIPS + 1
PEAKS = STRIPS + 2


@dataclass(frozen=True)
class HopTimes:
    """Compute time of the newest hops as a share of the hop's duration."""

    loads: NDArray[np.float64]

    def percentile(self, q: float) -> float:
        """The `q`-th percentile (0..100) of the loads; 0 before the first hop."""
        return float(np.percentile(self.loads, q)) if self.loads.size else 0.0


class Health:
    """Views of the counters.

    Threads: reading from anywhere; each row has one writer.
    """

    def __init__(
        self, counters: NDArray[np.int64], peaks: NDArray[np.float32], hop_seconds: NDArray[np.float64]
    ) -> None:
        self.counters, self.peaks, self.hop_seconds = counters, peaks, hop_seconds

    @staticmethod
    def fields() -> list[Field]:
        """What a segment needs for the counters."""
        return [
            Field("health.counters", (len(ROLES), WORDS), "int64"),
            Field("health.peaks", (PEAKS,), "float32"),
            Field("health.hop_seconds", (HOP_RING,), "float64"),
        ]

    @classmethod
    def of(cls, segment: Segment) -> Health:
        """The counters that lie in `segment`."""
        return cls(
            segment.array("health.counters"),
            segment.array("health.peaks"),
            segment.array("health.hop_seconds"),
        )

    def count(self, column: int) -> int:
        """A counter of the callback's row."""
        return int(self.counters[CALLBACK, column])

    def beat(self, role: int) -> None:
        """Say that `role` is alive now."""
        self.counters[role, HEARTBEAT_NS] = time.monotonic_ns()

    def seconds_since_beat(self, role: int) -> float:
        """Age of the last heart-beat of `role`; infinite before the first."""
        beat = int(self.counters[role, HEARTBEAT_NS])
        return (time.monotonic_ns() - beat) / 1e9 if beat else float("inf")

    def record_hop(self, seconds: float) -> None:
        """Note the compute time of one hop of the separator."""
        row = self.counters[SEPARATOR]
        self.hop_seconds[row[HOPS] % HOP_RING] = seconds
        row[HOPS] += 1

    def hop_times(self, hop_frames: int, sample_rate_hz: int) -> HopTimes:
        """Loads of the newest hops, at most `HOP_RING` of them."""
        known = min(int(self.counters[SEPARATOR, HOPS]), HOP_RING)
        return HopTimes(self.hop_seconds[:known] * (sample_rate_hz / hop_frames))
