"""Batches of items, made by worker processes ahead of time or on the spot: the same either way."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from model.training.dataset import Item, ItemStream
from model.training.recipe import TrainingError
from model.training.synth import Audio

if TYPE_CHECKING:
    from torch import Tensor

OpenStream = Callable[[], ItemStream]
_ITEMS_AHEAD = 3  # per worker; at least two batches


@dataclass(frozen=True)
class Batch:
    """Stems [batch, 4, 2, frames] and whether each item is split [batch]; mixtures are the sums of stems."""

    stems: Tensor
    split: Tensor

    def to(self, device: str) -> Batch:
        """The same on a device, without waiting for the copy from pinned memory."""
        stems, split = (t.to(device, non_blocking=True) for t in (self.stems, self.split))
        return Batch(stems, split)


def joined(items: Sequence[Item]) -> Batch:
    """Items side by side."""
    import torch  # workers never come here and are spared a second of import

    stems = torch.from_numpy(np.stack([item.stems for item in items]))
    return Batch(stems, torch.tensor([item.split for item in items]))


def batches(
    open_stream: OpenStream,
    indices: Iterable[range],
    item_frames: int,
    workers: int = 0,
    pinned: bool = False,
) -> Generator[Batch, None, None]:
    """The batches of these items, in order; errors of a worker come out where its batch would.

    `indices` are as many for every batch. If there are workers, each opens its own stream, so `open_stream`
    must be picklable, and batches lie in memory that a GPU can copy from by itself where `pinned`. Close the
    iterator to end them. Raises TrainingError where a worker dies. Threads: one reader.
    """
    if workers == 0:
        stream = open_stream()
        yield from (joined([stream.item(index) for index in each]) for each in indices)
        return
    indices = iter(indices)
    first = next(indices)
    ahead = max(2, math.ceil(_ITEMS_AHEAD * workers / len(first)))
    spawn = multiprocessing.get_context("spawn")  # not forked: this process holds threads, and maybe a GPU
    memory = spawn.RawArray(ctypes.c_float, (ahead + 1) * len(first) * 8 * item_frames)
    pool = ProcessPoolExecutor(workers, spawn, _open, (open_stream, memory, item_frames))
    joiner = ThreadPoolExecutor(1)
    slots = _slots(memory, item_frames).reshape(ahead + 1, len(first), 4, 2, item_frames)
    try:
        yield from _ahead(pool, joiner, chain([first], indices), slots, pinned)
    except BrokenProcessPool:
        raise TrainingError("a worker that makes items has ended; see its last lines above") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        joiner.shutdown(wait=False, cancel_futures=True)


def _slots(memory: ctypes.Array[ctypes.c_float], frames: int) -> Audio:
    """Shared memory as [items, 4, 2, frames]. Sent through pipes, items would cost a whole core here."""
    return np.asarray(np.ctypeslib.as_array(memory).reshape(-1, 4, 2, frames))


def _ahead(
    pool: ProcessPoolExecutor,
    joiner: ThreadPoolExecutor,
    indices: Iterable[range],
    slots: Audio,
    pinned: bool,
) -> Iterator[Batch]:
    """Keep all but one of the batches that `slots` [batches, batch, 4, 2, frames] holds in the making."""
    coming: deque[Future[Batch]] = deque()
    for number, each in enumerate(indices):
        place = number % len(slots)
        made = [pool.submit(_item, i, place * len(each) + slot) for slot, i in enumerate(each)]
        coming.append(joiner.submit(_gathered, slots[place], made, pinned))
        if len(coming) == len(slots):
            yield coming.popleft().result()
    yield from (batch.result() for batch in coming)


def _gathered(slots: Audio, made: Sequence[Future[bool]], pinned: bool) -> Batch:
    """A batch of its own memory out of [batch, 4, 2, frames], as soon as its items are there."""
    import torch

    split = torch.tensor([item.result() for item in made])
    stems = torch.empty(slots.shape, pin_memory=pinned)
    return Batch(stems.copy_(torch.from_numpy(slots)), split)


_own: list[tuple[ItemStream, Audio]] = []  # stream and slots of this worker


def _open(open_stream: OpenStream, memory: ctypes.Array[ctypes.c_float], frames: int) -> None:
    os.nice(5)  # the process that waits for items, and feeds the GPU, goes first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends its workers itself
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _own.append((open_stream(), _slots(memory, frames)))


def _leave_with_parent() -> None:
    """A pool whose owner was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _item(index: int, slot: int) -> bool:
    """Make an item into its slot; whether it is split."""
    stream, slots = _own[0]
    item = stream.item(index)
    slots[slot] = item.stems
    return item.split
