"""A song through the live engine in real time, with everything recorded that a report wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host.app import BlockRange, Bridge
from host.file_device import Aligned, Collector, FileDevice, WallClock, with_tail
from host.recorder import Recorder, Recording
from host.settings import EngineSettings
from streaming.health import FRAME, HOPS, LATE_HOPS, SEPARATOR, XRUNS, HopTimes
from streaming.latency import LatencyBudget
from streaming.separator import Audio
from streaming.session import Session, SessionSpec

POLL_S = 0.04


@dataclass(frozen=True)
class Take:
    """What a run came to. Audio is aligned with the input and as long: [channels, frames].

    `output` is what the engine played; `raw` and `wet` are what separator and chains wrote, by stem.
    """

    spec: SessionSpec
    budget: LatencyBudget
    output: Audio
    raw: Recording
    wet: Recording
    times: HopTimes
    hops: int
    late_hops: int
    xruns: int

    @property
    def stems(self) -> Audio:
        """What is heard of every stem [stems, channels, frames]: wet where it has a chain, else raw."""
        chained = np.array(self.spec.chained)[:, None, None]
        return np.where(chained, self.wet.audio, self.raw.audio)


class Performance:
    """One run of a bridge on an array, by the clock, at unity gains.

    The epoch is open before the engine exists, so the output is exact from the first frame. The device runs
    in a thread of its own; the caller's thread records and shows.

    Parameters
    ----------
    settings, rate_hz, on_event : as `Bridge`
    audio : the mix [2, frames]
    block_frames : the device's block

    Threads: one.
    """

    def __init__(
        self,
        settings: EngineSettings,
        rate_hz: int,
        audio: Audio,
        block_frames: int,
        on_event: Callable[..., None] = lambda event, **fields: None,
    ) -> None:
        self._audio, self._block_frames = audio, block_frames
        self._bridge = Bridge(settings, rate_hz, on_event)
        self.budget = self._bridge.budget(BlockRange(block_frames, block_frames))

    @property
    def stem_names(self) -> tuple[str, ...]:
        return self._bridge.facts.stem_names

    @property
    def peaks(self) -> NDArray[np.float32]:
        """Live meters of the strips, the stems first."""
        return self._bridge.session.health.peaks

    def start(self) -> None:
        """Start the children and wait for them. Errors: StartError."""
        self._bridge.start_children()

    def play(self, on_progress: Callable[[float], None]) -> Take:
        """Play to the end; `on_progress` is told the part that is done. An interrupt fades first."""
        bridge, frames = self._bridge, self._audio.shape[1]
        bridge.open_epoch(self.budget)
        latency, output = self.budget.total_frames, Collector()
        device = FileDevice(
            bridge.make_engine(),
            with_tail(self._audio, latency),
            self._block_frames,
            WallClock(bridge.rate_hz),
            on_output=Aligned(output, latency, frames),
        )
        recorders = Recorder(bridge.session.raw, frames), Recorder(bridge.session.wet, frames)
        with ThreadPoolExecutor(1, "device") as pool:
            playing = pool.submit(device.run)
            try:
                self._watch(playing, recorders, on_progress)
            except BaseException:
                bridge.fade_out()
                raise
            finally:
                device.stop()
        return self._take(output.audio, *(recorder.recording for recorder in recorders))

    def _watch(
        self, playing: Future[int], recorders: tuple[Recorder, ...], on_progress: Callable[[float], None]
    ) -> None:
        health, frames = self._bridge.session.health, self._audio.shape[1] + self.budget.total_frames
        while not playing.done():
            time.sleep(POLL_S)
            for recorder in recorders:
                recorder.poll()
            on_progress(min(health.count(FRAME) / frames, 1.0))
        playing.result()
        for recorder in recorders:
            recorder.poll()

    def _take(self, output: Audio, raw: Recording, wet: Recording) -> Take:
        session: Session = self._bridge.session
        health, spec = session.health, session.spec
        return Take(
            spec=spec,
            budget=self.budget,
            output=output,
            raw=raw,
            wet=wet,
            times=health.hop_times(spec.hop_frames, spec.sample_rate_hz),
            hops=int(health.counters[SEPARATOR, HOPS]),
            late_hops=health.count(LATE_HOPS),
            xruns=health.count(XRUNS),
        )

    def close(self) -> None:
        """Send the children away and drop the memory; after it nothing of the session may be used."""
        self._bridge.close()
