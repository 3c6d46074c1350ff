"""A device made of an array: drives an engine block by block, by the clock or as fast as stems come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from streaming.callback import Engine
from streaming.separator import Audio
from streaming.session import Session

POLL_S = 0.0002
PATIENCE_S = 30.0

Sink = Callable[[Audio], None]


class FileDeviceError(RuntimeError):
    """The stems that the next block needs do not come, in one line."""


class Pace(Protocol):
    """Waits until the engine may work the next block."""

    def wait(self, block_frames: int) -> None: ...


class WallClock:
    """One block per block's duration, like a sound card. A late block is followed at once by the next.

    Threads: the device's.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._next_s: float | None = None

    def wait(self, block_frames: int) -> None:
        now = time.monotonic()
        due = now if self._next_s is None else self._next_s
        if due > now:
            time.sleep(due - now)
        self._next_s = due + block_frames / self._rate_hz


class WrittenStems:
    """As fast as it goes: waits until every stem that the next block will read has been written.

    The latency in force must leave room for one block, as every budget with an allowance above 0 does.

    Errors: FileDeviceError after `patience_s` without a stem.

    Threads: the device's.
    """

    def __init__(self, session: Session, patience_s: float = PATIENCE_S) -> None:
        self._session, self._patience_s = session, patience_s
        self._played = session.played

    def wait(self, block_frames: int) -> None:
        plan = self._session.plan.latest()
        if plan is None or not plan["epoch"][0]:
            return
        needed = self._session.dry.end + block_frames - int(plan["latency_frames"][0])
        deadline = time.monotonic() + self._patience_s
        while needed > 0 and any(stem.end < needed for stem in self._played):
            if time.monotonic() > deadline:
                raise FileDeviceError(
                    f"No stems came for {self._patience_s:g} s: the separator hangs or the latency leaves it"
                    " no time; try a larger --allowance-ms."
                )
            time.sleep(POLL_S)


def nowhere(_block: Audio) -> None:
    """A sink that keeps nothing."""


class FileDevice:
    """Plays an array into an engine and hands out what it gives, frame for frame.

    Parameters
    ----------
    engine : what works the blocks
    audio : input [device inputs, frames] float32; silence follows it to the end of the last block
    block_frames : frames per block
    pace : `WallClock` or `WrittenStems`
    outputs : device outputs of the engine
    on_output : given every output block [outputs, block_frames]; the array is reused
    on_progress : told (frames done, frames in all) after every block

    Threads: `run` in one; `stop` from any.
    """

    def __init__(
        self,
        engine: Engine,
        audio: Audio,
        block_frames: int,
        pace: Pace,
        outputs: int = 2,
        on_output: Sink = nowhere,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if block_frames < 1:
            raise ValueError(f"A block of {block_frames} frames: it must be 1 or more.")
        self._engine, self._audio, self._block_frames, self._pace = engine, audio, block_frames, pace
        self._on_output, self._on_progress = on_output, on_progress
        self._in = np.zeros((audio.shape[0], block_frames), np.float32)
        self._out = np.zeros((outputs, block_frames), np.float32)
        self._stopped = threading.Event()

    def run(self) -> int:
        """Drive the engine to the end of the audio, or until `stop`; returns the input frames played.

        Errors: whatever the pace or the sinks raise.
        """
        total = self._audio.shape[1]
        done = 0
        while done < total and not self._stopped.is_set():
            self._pace.wait(self._block_frames)
            self._work(self._audio[:, done : done + self._block_frames])
            done = min(done + self._block_frames, total)
            self._on_progress(done, total)
        return done

    def _work(self, piece: Audio) -> None:
        self._in[:, : piece.shape[1]] = piece
        self._in[:, piece.shape[1] :] = 0.0
        self._engine.process(self._in, self._out)
        self._on_output(self._out)

    def stop(self) -> None:
        """End `run` after the block in work."""
        self._stopped.set()


def with_tail(audio: Audio, tail_frames: int) -> Audio:
    """`audio` and as much silence as it takes for its last frame to come out."""
    return np.pad(audio, ((0, 0), (0, tail_frames)))


class Aligned:
    """A sink that hands on only the frames that belong to the input: drops the latency and what is too much.

    Threads: the device's.
    """

    def __init__(self, sink: Sink, latency_frames: int, frames: int) -> None:
        self._sink, self._skip, self._left = sink, latency_frames, frames

    def __call__(self, block: Audio) -> None:
        skipped = min(self._skip, block.shape[1])
        kept = block[:, skipped : skipped + self._left]
        self._skip -= skipped
        self._left -= kept.shape[1]
        if kept.shape[1]:
            self._sink(kept)


class Collector:
    """A sink that keeps everything; `audio` [channels, frames] is what came.

    Threads: the device's.
    """

    def __init__(self) -> None:
        self._blocks: list[Audio] = []

    def __call__(self, block: Audio) -> None:
        self._blocks.append(block.copy())

    @property
    def audio(self) -> Audio:
        return np.concatenate(self._blocks, axis=1) if self._blocks else np.zeros((0, 0), np.float32)
