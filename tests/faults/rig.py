"""A bridge whose separator process can be made faulty, and a sound card that needs no server."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import app
from host.app import BlockRange, Bridge
from host.audio_device import DeviceState
from host.file_device import Aligned, Collector, FileDevice, WallClock, with_tail
from host.settings import EngineSettings
from host.supervisor import ChildSpec
from streaming.callback import Engine
from streaming.health import INVALID_HOPS, LATE_HOPS, SEPARATOR
from streaming.separator import Audio

RATE_HZ, BLOCK = 44100, 128
ALLOWANCE_MS = 200.0  # the machine may be busy; only the fault may be heard
NAN_HOPS = 3


def make_faulty(patch: pytest.MonkeyPatch, folder: Path, fault: str) -> None:
    """Have the bridges to come run the faulty separator process."""

    def spec(name: str, module: str, *others: Any) -> ChildSpec:
        module = "tests.faults.faulty_separator" if name == "separator" else module
        return ChildSpec(name, module, *others)

    patch.setenv("FAULT", fault)
    patch.setenv("FAULT_MARK", str(folder / "mark"))
    patch.setenv("FAULT_HOPS", str(NAN_HOPS))
    patch.setattr(app, "ChildSpec", spec)


class Run:
    """One run of a bridge on `audio` by the clock; what came of it.

    Attributes
    ----------
    heard : the output, aligned with the input
    states : (child, state, detail) in their order
    late_hops, invalid_hops : as counted
    pids, segment : what must be gone now
    """

    def __init__(self, audio: Audio, fallback: str) -> None:
        self.states: list[tuple[str, str, str]] = []
        self.pids: set[int] = set()
        settings = EngineSettings("signature", "acapella", fallback, ALLOWANCE_MS)  # type: ignore[arg-type]
        bridge = Bridge(settings, RATE_HZ, self._event)
        self.segment = bridge.session.name
        try:
            bridge.start_children()
            self.heard = self._play(bridge, audio)
            health = bridge.session.health
            self.late_hops = health.count(LATE_HOPS)
            self.invalid_hops = int(health.counters[SEPARATOR, INVALID_HOPS])
        finally:
            bridge.close()

    def _event(self, event: str, **fields: Any) -> None:
        if event == "child":
            self.states.append((fields["name"], fields["state"], fields["detail"]))
            self.pids.add(fields["pid"])

    def _play(self, bridge: Bridge, audio: Audio) -> Audio:
        budget = bridge.budget(BlockRange(BLOCK, BLOCK))
        bridge.open_epoch(budget)
        output, latency = Collector(), budget.total_frames
        FileDevice(
            bridge.make_engine(),
            with_tail(audio, latency),
            BLOCK,
            WallClock(RATE_HZ),
            on_output=Aligned(output, latency, audio.shape[1]),
        ).run()
        return output.audio

    def left_behind(self) -> list[str]:
        return left_behind(self.pids, self.segment)


def left_behind(pids: set[int], segment: str) -> list[str]:
    """Processes and shared memory of a run that still exist."""
    paths = [Path(f"/proc/{pid}") for pid in pids if pid] + list(Path("/dev/shm").glob(f"*{segment}*"))
    return [str(path) for path in paths if path.exists()]


class ClockDevice:
    """Stands in for `AudioDevice` in a LiveApp: a steady input, the clock's pace, and a list of what it did.

    The callback that it is given is the engine itself.
    """

    events: list[str]
    heard: Collector
    interrupted_at = "never"
    state = DeviceState.RUNNING
    on_stop = staticmethod(lambda: None)

    def __init__(self, _settings: object, engine: Engine, *_: object) -> None:
        self._engine: Engine | None = engine
        self._device: FileDevice | None = None
        self._checks = 0

    def _do(self, what: str) -> None:
        self.events.append(f"device {what}")
        if self.interrupted_at == what:
            raise KeyboardInterrupt

    def open(self) -> None:
        self._do("open")

    def start(self) -> None:
        self._do("start")
        steady = np.full((2, 60 * RATE_HZ), 0.5, np.float32)
        self._device = FileDevice(
            self._engine,
            steady,
            BLOCK,
            WallClock(RATE_HZ),
            on_output=self.heard,  # type: ignore[arg-type]
        )
        self._thread = threading.Thread(target=self._device.run)
        self._thread.start()

    def check(self) -> None:
        self._checks += 1
        if self._checks == 10 and self.interrupted_at == "check":
            raise KeyboardInterrupt

    def stop(self) -> None:
        if self._device is not None:
            self._device.stop()
            self._thread.join()
        self.on_stop()
        self.events.append("device stop")

    def close(self) -> None:
        self.events.append("device close")
        self._device = self._engine = None
