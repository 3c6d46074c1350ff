"""The callback's view of all controls: a record taken whole or not at all.

Three slots and a sequence number: the writer fills slot `n % 3` before it publishes number `n`, so the slot
that a reader copies is touched again only after two more were published. Who sees that keeps what it had.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.atomics import fence, load_acquire, store_release
from streaming.compiled import compiled
from streaming.segment import Field, Segment

STRIPS = 16  # stems take strips 0.., the residual is the last strip
RESIDUAL = MAX_STEMS = STRIPS - 1

CONTROLS = np.dtype(
    [
        ("strip_gain", "f8", (STRIPS,)),
        ("output_gain", "f8"),
        ("strip_mute", "u1", (STRIPS,)),
        ("strip_solo", "u1", (STRIPS,)),
        ("bypass", "i8"),
        ("fallback_silence", "i8"),
    ]
)
"""What the faders say: linear gains, switches 0 or 1. The law that uses them is in `mixer`."""

PLAN = np.dtype([("epoch", "i8"), ("latency_frames", "i8"), ("declared_frames", "i8")])
"""What the callback plays: epoch 0 is silence; a new number fades through silence to the new latency.

`declared_frames` is what users are told: `latency_frames` and what the device adds outside the engine.
"""

SLOTS = 3
HEADER_WORDS = 8


def neutral_controls() -> NDArray[np.void]:
    """A CONTROLS record with every fader at unity and nothing switched; shape [1]."""
    record = np.zeros(1, CONTROLS)
    record["strip_gain"] = 1.0
    record["output_gain"] = 1.0
    return record


Words = NDArray[np.int64]


@compiled
def copy_words(source: Words, target: Words) -> None:
    """A plain loop: assigning a slice would leave an allocation and a raise path in the callback."""
    for i in range(source.shape[0]):
        target[i] = source[i]


@compiled
def snapshot_publish(header: Words, slots: Words, words: Words) -> None:
    """Make `words` the newest record. Threads: the one writer."""
    sequence: int = load_acquire(header, 0) + 1
    fence()  # the previous number must be seen before the slot two behind it changes
    copy_words(words, slots[sequence % SLOTS])
    store_release(header, 0, sequence)


@compiled
def snapshot_take(header: Words, slots: Words, mine: Words, spare: Words, seen: int) -> int:
    """Copy the newest record into `mine` and return its number; return `seen` where none is new and whole.

    Threads: any reader, compiled code without the GIL included; never waits.
    """
    newest: int = load_acquire(header, 0)
    if newest == seen:
        return seen
    copy_words(slots[newest % SLOTS], spare)
    fence()
    if load_acquire(header, 0) > newest + 1:
        return seen
    copy_words(spare, mine)
    return newest


@compiled
def snapshot_sequence(header: Words) -> int:
    """The newest record's number; 0 before the first. Threads: any."""
    sequence: int = load_acquire(header, 0)
    return sequence


class Snapshot:
    """One writer in any process, any number of readers; readers never wait and never see half a record.

    Threads: `publish` from the one writer; `latest` from anywhere.
    """

    def __init__(self, header: Words, slots: Words, dtype: np.dtype[np.void]) -> None:
        self.header, self.slots, self.dtype = header, slots, dtype

    @staticmethod
    def fields(name: str, dtype: np.dtype[np.void]) -> list[Field]:
        """What a segment needs for a snapshot of `dtype`, whose size must be whole int64 words."""
        return [
            Field(f"{name}.header", (HEADER_WORDS,), "int64"),
            Field(f"{name}.slots", (SLOTS, dtype.itemsize // 8), "int64"),
        ]

    @classmethod
    def of(cls, segment: Segment, name: str, dtype: np.dtype[np.void]) -> Snapshot:
        """The snapshot that lies in `segment` under `name`."""
        return cls(segment.array(f"{name}.header"), segment.array(f"{name}.slots"), dtype)

    @property
    def published(self) -> int:
        """How many records were published so far."""
        return int(snapshot_sequence(self.header))

    def publish(self, record: NDArray[np.void]) -> None:
        """Make `record` (of this snapshot's dtype, shape [1]) the newest one."""
        words = np.ascontiguousarray(record, self.dtype).reshape(1).view(np.int64)
        snapshot_publish(self.header, self.slots, words)

    def latest(self) -> NDArray[np.void] | None:
        """A copy of the newest record, shape [1], or None before the first."""
        mine, spare = np.zeros((2, self.dtype.itemsize // 8), np.int64)
        while self.published:
            if snapshot_take(self.header, self.slots, mine, spare, 0):
                return mine.view(self.dtype)
        return None
