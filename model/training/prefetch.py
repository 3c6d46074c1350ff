"""Batches of items, made by worker processes ahead of time or on the spot: the same either way."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.training.dataset import Item, ItemStream
from model.training.recipe import TrainingError

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


def joined(items: Sequence[Item], pinned: bool = False) -> Batch:
    """Items side by side, in memory that a GPU can copy from by itself where `pinned`."""
    import torch  # workers never come here and are spared a second of import

    stems = torch.empty((len(items), *items[0].stems.shape), pin_memory=pinned)
    for place, item in zip(stems, items, strict=True):
        place.numpy()[:] = item.stems
    return Batch(stems, torch.tensor([item.split for item in items]))


def batches(
    open_stream: OpenStream, indices: Iterable[range], workers: int = 0, pinned: bool = False
) -> Generator[Batch, None, None]:
    """The batches of these items, in order; errors of a worker come out where its batch would.

    `open_stream` must be picklable if there are workers: each opens its own. Close the iterator to end them.
    Threads: one reader.
    """
    if workers == 0:
        stream = open_stream()
        yield from (joined([stream.item(i) for i in each], pinned) for each in indices)
        return
    # Spawned, not forked: this process holds threads, and maybe a GPU.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=_open, initargs=(open_stream,))
    joiner = ThreadPoolExecutor(1)
    try:
        yield from _ahead(pool, joiner, indices, _ITEMS_AHEAD * workers, pinned)
    except BrokenProcessPool:
        raise TrainingError("a worker that makes items has ended; see its last lines above") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        joiner.shutdown(wait=False, cancel_futures=True)


def _ahead(
    pool: ProcessPoolExecutor, joiner: ThreadPoolExecutor, indices: Iterable[range], items: int, pinned: bool
) -> Iterator[Batch]:
    """Keep at least `items` items and two batches in the making."""
    coming: deque[Future[Batch]] = deque()
    for each in indices:
        coming.append(joiner.submit(_gathered, [pool.submit(_item, index) for index in each], pinned))
        if len(coming) > max(2, items // len(each)):
            yield coming.popleft().result()
    yield from (batch.result() for batch in coming)


def _gathered(items: Sequence[Future[Item]], pinned: bool) -> Batch:
    return joined([item.result() for item in items], pinned)


_streams: list[ItemStream] = []  # the one of this worker


def _open(open_stream: OpenStream) -> None:
    os.nice(5)  # the process that waits for items, and feeds the GPU, goes first
    _streams.append(open_stream())


def _item(index: int) -> Item:
    item = _streams[0].item(index)
    return Item(np.ascontiguousarray(item.stems), item.split)
