"""Audio between processes: a ring in shared memory, addressed by absolute frame number.

One writer, any number of readers, in any processes. The writer never waits; a reader that was overtaken
knows it. Frames [start, end) are the current *run*, less what the ring has overwritten. A write at any
frame but `end` opens a new run with the next epoch number: what was before is gone, never mixed with what
comes.

How it stays whole (after Boehm, "Can seqlocks get along with programming language memory models?", 2012): the
writer raises CLAIM before it overwrites memory and END after; EPOCH is odd while a run is being opened. A
reader copies first and asks afterwards what the writer may have touched meanwhile. Wherever a writer is
killed, CLAIM and EPOCH already tell what it may have spoilt.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from streaming.atomics import fence, load_acquire, store_release
from streaming.compiled import compiled

HEADER_WORDS = 64
# Counters of one writer, 64 bytes apart: one cache line each.
START, END, CLAIM, EPOCH = 0, 8, 16, 24

Words = npt.NDArray[np.int64]
Audio = npt.NDArray[np.float32]


@compiled
def _open_run(header: Words, frame: int) -> None:
    # Odd stays odd if the last writer was killed in here.
    changing = load_acquire(header, EPOCH) | 1
    store_release(header, EPOCH, changing)
    # A release store only holds back what came before it. The fence keeps the new counters behind the odd
    # epoch, so who sees one of them sees the odd epoch too (or a later one) when it looks again.
    fence()
    store_release(header, CLAIM, frame)
    store_release(header, START, frame)
    store_release(header, END, frame)
    store_release(header, EPOCH, changing + 1)


@compiled
def _copy(target: Audio, target_first: int, source: Audio, source_first: int, frames: int) -> None:
    # Views, and not sums of indices, show the compiler that no index is negative: it copies by vectors.
    for channel in range(target.shape[0]):
        target_part = target[channel, target_first : target_first + frames]
        source_part = source[channel, source_first : source_first + frames]
        for i in range(frames):
            target_part[i] = source_part[i]


@compiled
def _copy_in(data: Audio, frame: int, block: Audio, first: int, frames: int) -> None:
    position = frame % data.shape[1]
    before_wrap = min(frames, data.shape[1] - position)
    _copy(data, position, block, first, before_wrap)
    _copy(data, 0, block, first + before_wrap, frames - before_wrap)


@compiled
def _copy_out(data: Audio, frame: int, out: Audio, first: int, frames: int) -> None:
    position = frame % data.shape[1]
    before_wrap = min(frames, data.shape[1] - position)
    _copy(out, first, data, position, before_wrap)
    _copy(out, first + before_wrap, data, 0, frames - before_wrap)


@compiled
def timeline_write(header: Words, data: Audio, frame: int, block: Audio, frames: int) -> None:
    """Write block[:, :frames] at `frame`. Needs frames >= 0 and block [channels, >= frames].

    Threads: the one writer; compiled code without the GIL included. Never waits.
    """
    if frame != load_acquire(header, END) or load_acquire(header, EPOCH) & 1:
        _open_run(header, frame)
    end = frame + frames
    # Never lowered inside a run: a writer killed in the copy below may have spoilt memory up to its own
    # claim.
    store_release(header, CLAIM, max(end, load_acquire(header, CLAIM)))
    # The claim must be seen before any frame that it announces; a release store alone lets later stores
    # pass it.
    fence()
    skipped = max(0, frames - data.shape[1])
    _copy_in(data, frame + skipped, block, skipped, frames - skipped)
    store_release(header, END, end)


@compiled
def timeline_read(header: Words, data: Audio, frame: int, out: Audio, frames: int) -> tuple[int, int]:
    """Copy what is whole of [frame, frame + frames) to its place in out [channels, >= frames].

    Returns (valid_from, valid_to), indices into `out`; (0, 0) if nothing is there. What lies outside stays
    as it was, except that frames which the writer overtook during the copy may have been touched: use only
    what is valid.

    Threads: any reader; compiled code without the GIL included. Never waits.
    """
    epoch: int = load_acquire(header, EPOCH)
    # The acquire loads keep this order: counters not older than the epoch, frames not older than END.
    first = max(frame, load_acquire(header, START), load_acquire(header, CLAIM) - data.shape[1])
    last = min(frame + frames, load_acquire(header, END))
    if epoch & 1 or first >= last:
        return 0, 0
    _copy_out(data, first, out, first - frame, last - first)
    # The copy must be over before the counters are asked again; an acquire load alone lets earlier loads
    # pass it. With the writer's fence: who copied an overwritten frame now sees the claim, or the epoch,
    # that announced it.
    fence()
    first = max(first, load_acquire(header, CLAIM) - data.shape[1])
    if load_acquire(header, EPOCH) != epoch or first >= last:
        return 0, 0
    return first - frame, last - frame


@compiled
def timeline_start(header: Words) -> int:
    """First frame of the current run. Threads: any."""
    start: int = load_acquire(header, START)
    return start


@compiled
def timeline_end(header: Words) -> int:
    """Frame after the newest one of the current run. Threads: any."""
    end: int = load_acquire(header, END)
    return end


@compiled
def timeline_epoch(header: Words) -> int:
    """How many runs were opened so far. Threads: any."""
    epoch: int = load_acquire(header, EPOCH) >> 1
    return epoch


class TimelineError(ValueError):
    """Arrays that do not fit a timeline."""


class Timeline:
    """A timeline seen from Python.

    Parameters
    ----------
    header : int64 [HEADER_WORDS], zeroed when created
    data : float32 [channels, capacity_frames]

    Threads: `write` by the one writer, everything else by anyone.
    """

    def __init__(self, header: Words, data: Audio) -> None:
        if header.shape != (HEADER_WORDS,) or header.dtype != np.int64:
            raise TimelineError(
                f"timeline header is {header.dtype}{header.shape}: it must be int64 [{HEADER_WORDS}]"
            )
        if data.ndim != 2 or data.size == 0 or data.dtype != np.float32:
            raise TimelineError(
                f"timeline data is {data.dtype}{data.shape}: it must be float32 [channels, frames]"
            )
        self.header = header
        self.data = data

    @property
    def channels(self) -> int:
        return int(self.data.shape[0])

    @property
    def capacity_frames(self) -> int:
        return int(self.data.shape[1])

    @property
    def start(self) -> int:
        return timeline_start(self.header)

    @property
    def end(self) -> int:
        return timeline_end(self.header)

    @property
    def epoch(self) -> int:
        return timeline_epoch(self.header)

    def write(self, frame: int, block: Audio) -> None:
        """Write block [channels, frames] at `frame`; a frame other than `end` opens a new run."""
        self._check(block)
        # One memory layout, so that no other is compiled in the middle of a stream.
        whole = np.require(block, requirements=["C", "W"])
        timeline_write(self.header, self.data, frame, whole, whole.shape[1])

    def read(self, frame: int, out: Audio) -> tuple[int, int]:
        """As `timeline_read`, into the whole of out [channels, frames]."""
        self._check(out)
        whole = out if out.flags.c_contiguous else np.empty(out.shape, np.float32)
        valid_from, valid_to = timeline_read(self.header, self.data, frame, whole, out.shape[1])
        if whole is not out:
            out[:, valid_from:valid_to] = whole[:, valid_from:valid_to]
        return valid_from, valid_to

    def _check(self, block: npt.NDArray[Any]) -> None:
        if block.ndim != 2 or block.shape[0] != self.channels or block.dtype != np.float32:
            raise TimelineError(
                f"block is {block.dtype}{block.shape}: this timeline takes float32 [{self.channels}, frames]"
            )
