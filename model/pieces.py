"""Long audio as a stream of pieces, so that memory does not grow with the length of a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]

Separate = Callable[[Iterable[Audio]], Iterator[Audio]]
"""Pieces [channels, frames] of any lengths in, pieces [stems, channels, frames] out: as many frames."""


def loudest(audio: Audio, frames: int, step_frames: int) -> slice:
    """The loudest part of this length of audio [channels, frames], to a step; all of it where it is shorter.

    Threads: any.
    """
    starts = range(0, max(audio.shape[-1] - frames, 0) + 1, step_frames)
    start = max(starts, key=lambda at: float(np.square(audio[:, at : at + frames]).sum()))
    return slice(start, start + frames)


def rechunked(pieces: Iterable[Audio], frames: int) -> Iterator[Audio]:
    """The same audio in pieces of `frames`; the last one may be shorter. Threads: one at a time."""
    held: list[Audio] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += piece.shape[-1]
        if count < frames:
            continue
        joined = np.concatenate(held, axis=-1)
        whole = count - count % frames
        yield from (joined[..., start : start + frames] for start in range(0, whole, frames))
        held, count = [joined[..., whole:]], count - whole
    if count:
        yield np.concatenate(held, axis=-1)


def of_length(pieces: Iterable[Audio], frames: int) -> Iterator[Audio]:
    """Exactly `frames` frames: what is over is left out, what is missing is silence."""
    left, shape = frames, (0,)
    for piece in pieces:
        yield piece[..., :left]
        left -= min(left, piece.shape[-1])
        shape = piece.shape[:-1]
    if left:
        yield np.zeros((*shape, left), np.float32)


def gathered(pieces: Iterable[Audio], whole: Audio, progress: Callable[[float], None]) -> Audio:
    """`whole` [..., frames], filled from its start; `progress` is told the part, 0..1, after every piece."""
    end, frames = 0, whole.shape[-1]
    for piece in pieces:
        whole[..., end : end + piece.shape[-1]] = piece
        end += piece.shape[-1]
        progress(end / max(1, frames))
    return whole


def shared(pieces: Iterable[Audio], count: int) -> list[Iterator[Audio]]:
    """The same pieces for `count` readers; only what one is ahead of others is held (`tee` holds 57 more)."""
    source, queues = iter(pieces), [deque[Audio]() for _ in range(count)]

    def read(queue: deque[Audio]) -> Iterator[Audio]:
        while True:
            if not queue:
                for piece in islice(source, 1):
                    for other in queues:
                        other.append(piece)
            if not queue:
                return
            yield queue.popleft()

    return [read(queue) for queue in queues]


def augmented(separate: Separate) -> Separate:
    """`separate` averaged over the audio, the same with its channels swapped, and with its polarity turned.

    As Music-Source-Separation-Training does it; stereo only gains by the swap.
    """

    def averaged(pieces: Iterable[Audio]) -> Iterator[Audio]:
        plain, to_swap, to_turn = shared(pieces, 3)
        swapped = separate(piece[::-1] for piece in to_swap)
        turned = separate(-piece for piece in to_turn)
        for a, b, c in zip(separate(plain), swapped, turned, strict=True):
            yield (a + b[:, ::-1] - c) / np.float32(3)

    return averaged
