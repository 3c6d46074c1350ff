"""The loop of any process that reads a timeline, works, and writes timelines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from streaming.health import HOPS, INVALID_HOPS, JOINS, SEPARATOR, Health
from streaming.overlap_add import OverlapAdd
from streaming.separator import Separator, SignatureSeparator, fade_frames
from streaming.timeline import HEADER_WORDS, Timeline
from streaming.wakeup import Wakeup
from streaming.window import WindowState, read_window

IDLE_S = 0.1
PATIENCE_HOPS = 64  # behind by more than this, catching up would only keep everything late


class HopWorker:
    """One stage between timelines: a window in, a hop of stems out, at absolute frames.

    Hops lie on the grid `phase_frames + k * hop_frames` of the source. A worker that starts, or that lost its
    place, joins at the next hop with fresh state, and publishes only what its input since then can explain.

    Parameters
    ----------
    source : the timeline that is read
    sinks : one timeline for each of the stage's stems
    stage : a `Separator`; a plugin chain is one with a single stem
    health, role : where hops are counted
    phase_frames : where the source's hops begin, as a remainder by the hop
    patience_frames : how far the worker may fall behind the source before it gives the hops between up

    Threads: one.
    """

    def __init__(
        self,
        source: Timeline,
        sinks: Sequence[Timeline],
        stage: Separator,
        health: Health,
        role: int = SEPARATOR,
        phase_frames: int = 0,
        patience_frames: Callable[[], int] | None = None,
    ) -> None:
        stems, channels, hop = len(stage.stem_names), source.channels, stage.hop_frames
        fade = fade_frames(stage)
        self.source, self.sinks, self.stage = source, list(sinks), stage
        self.health, self.role, self.phase_frames = health, role, phase_frames
        self._patience_frames = patience_frames or (lambda: PATIENCE_HOPS * hop)
        self._window = np.zeros((channels, stage.window_frames), np.float32)
        self._contribution = np.zeros((stems, channels, hop + fade), np.float32)
        self._finished = np.zeros((stems, channels, hop), np.float32)
        self._overlap_add = OverlapAdd(stems, channels, hop, fade)
        self.join()

    def join(self) -> None:
        """Start with the newest hop of the source that may be whole; a run's first is worked, not skipped."""
        # The epoch before the frames: where a run begins in between, the next step sees it.
        self._epoch = self.source.epoch
        hop = self.stage.hop_frames
        newest = max(self.source.start, self.source.end - hop)
        self._start_at(newest + (self.phase_frames - newest) % hop)
        self.health.counters[self.role, JOINS] += 1

    def _start_at(self, frame: int) -> None:
        """Forget the past; the next hop begins at `frame`."""
        self.stage.reset()
        self._overlap_add.reset()
        self._end = frame + self.stage.hop_frames
        self._valid_from = max(self.source.start, self._end - self.stage.window_frames)

    def step(self) -> bool:
        """Work one hop if its input is there; False if there was nothing to do."""
        if self.source.epoch != self._epoch or self._is_hopeless():
            self.join()
        state = read_window(self.source, self._end, self._window)
        if state is WindowState.NOT_YET:
            return False
        if state is WindowState.LOST:
            self.join()
            return True
        started = time.perf_counter()
        if not self._separate():
            self.health.counters[self.role, INVALID_HOPS] += 1
            self._start_at(self._end)
            return True
        self._publish()
        self._count(time.perf_counter() - started)
        self._end += self.stage.hop_frames
        return True

    def _is_hopeless(self) -> bool:
        return self.source.end - self._end > self._patience_frames()

    def _separate(self) -> bool:
        """Run the stage; whether its result may be used."""
        self.stage.separate(self._window, self._contribution)
        self._overlap_add.add(self._contribution, self._finished)
        return bool(np.isfinite(self._finished).all())

    def _publish(self) -> None:
        start = self._end - self.stage.latency_frames
        skipped = max(self._valid_from - start, 0)
        if skipped >= self.stage.hop_frames:
            return
        for sink, stem in zip(self.sinks, self._finished, strict=True):
            sink.write(start + skipped, np.ascontiguousarray(stem[:, skipped:]))

    def _count(self, seconds: float) -> None:
        if self.role == SEPARATOR:
            self.health.record_hop(seconds)
        else:
            self.health.counters[self.role, HOPS] += 1


def compile_loop() -> None:
    """Run one hop on memory of its own, so that a worker on live timelines never waits for the compiler."""
    stage = SignatureSeparator(stem_names=("vocals",), channels=1)
    header, data = np.zeros((2, HEADER_WORDS), np.int64), np.zeros((2, 1, stage.hop_frames), np.float32)
    source, sink = Timeline(header[0], data[0]), Timeline(header[1], data[1])
    health = Health(*(np.zeros(field.shape, field.dtype) for field in Health.fields()))
    worker = HopWorker(source, [sink], stage, health)
    source.write(0, np.zeros((1, stage.hop_frames), np.float32))
    worker.step()
    sink.write(0, data[0])


def run(
    workers: Sequence[HopWorker],
    wakeup: Wakeup,
    stop: Callable[[], bool],
    after_hop: Callable[[], None] = lambda: None,
) -> None:
    """Work until `stop()`; wait for the wake-up where no worker has input, and keep the heart beating.

    `after_hop` is called when hops were published: the next stage's wake-up.

    Threads: the process's main thread; `stop` is asked between hops and at least every 0.1 s.
    """
    health, role = workers[0].health, workers[0].role
    while not stop():
        health.beat(role)
        if sum(worker.step() for worker in workers):
            after_hop()
            continue
        wakeup.wait(IDLE_S)
