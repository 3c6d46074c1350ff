"""How long a frame takes from input to output, item by item.

A stage of algorithmic latency L gives the frames [e - L, e - L + H) when the input has come to `e`, a
multiple of its hop H. Buffering comes on top, because the device moves frames in blocks and the work takes
time.

Threads: any; everything here is immutable.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from streaming.framing import frames_to_ms


class LatencyError(ValueError):
    """A latency that does not fit where it is asked to."""


def buffering_frames(block_frames: int, hop_frames: int, allowance_frames: int) -> int:
    """Least buffering for a constant device block B: B * ceil(allowance / B) - gcd(B, H).

    Blocks and hops start on the same frame (or a multiple of the gcd apart). The sum may be negative: a
    block that holds several hops hides part of their algorithmic latency.
    """
    blocks = -(-allowance_frames // block_frames)
    return block_frames * blocks - math.gcd(block_frames, hop_frames)


def buffering_frames_varying(max_block_frames: int, hop_frames: int, allowance_frames: int) -> int:
    """Buffering that suffices for blocks of any size up to Bmax: allowance + Bmax - 1."""
    return allowance_frames + max_block_frames - 1


@dataclass(frozen=True)
class LatencyItem:
    """One part of the latency: whose, how many frames, and what for."""

    name: str
    frames: int
    why: str


@dataclass(frozen=True)
class LatencyBudget:
    """The itemised latency, declared before the first sample."""

    sample_rate_hz: int
    items: tuple[LatencyItem, ...]

    @property
    def total_frames(self) -> int:
        return sum(item.frames for item in self.items)

    @property
    def total_ms(self) -> float:
        return frames_to_ms(self.total_frames, self.sample_rate_hz)

    def padded_to(self, total_frames: int) -> "LatencyBudget":
        """The same budget with a reserve up to `total_frames`; LatencyError if it is longer already."""
        reserve = total_frames - self.total_frames
        if reserve < 0:
            raise LatencyError(
                f"the latency is {self.total_frames} frames and {total_frames} are reserved: reserve more"
            )
        item = LatencyItem("reserve", reserve, "room for other settings at the same latency")
        return LatencyBudget(self.sample_rate_hz, (*self.items, item))

    def rows(self) -> Iterator[tuple[str, int, float, str]]:
        """(name, frames, milliseconds, why) of every item and of the total."""
        for item in (*self.items, LatencyItem("total", self.total_frames, "input to output")):
            yield item.name, item.frames, frames_to_ms(item.frames, self.sample_rate_hz), item.why

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "latency_frames": self.total_frames,
            "latency_ms": self.total_ms,
            "items": [{"name": item.name, "frames": item.frames, "why": item.why} for item in self.items],
        }
