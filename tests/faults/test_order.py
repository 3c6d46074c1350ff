"""`live` starts and ends in one order, whatever ends it; the sound card is the clock's."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from host import app
from host import live as live_module
from host.app import LiveApp
from host.file_device import Collector
from host.live import live
from tests.faults.rig import ClockDevice, left_behind, make_faulty
from tests.live.hearing import largest_step
from tests.live.live_session import free_port

STARTED = ["device open", "separator starting", "control starting"]
LIVE = ["device start", "streaming", "epoch", "live"]
DEVICE_ENDS = ["device stop", "device close", "device_closed"]
CHILDREN_LEAVE = ["control stopping", "control stopped", "separator stopping", "separator stopped", "closed"]


class Stage:
    """`live` on a ClockDevice, and everything that happened in its order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.heard = Collector()
        self.pids: set[int] = set()
        self.segment = ""
        self.device = type("Device", (ClockDevice,), {"events": self.events, "heard": self.heard})
        patch.setattr(app, "AudioDevice", self.device)
        patch.setattr(app, "engine_callback", lambda engine, kind: engine)
        patch.setattr(live_module, "LiveApp", self._app)

    def _app(self, settings: Any, _on_event: object) -> LiveApp:
        made = LiveApp(settings, self._event)
        self.segment = made.bridge.session.name
        return made

    def _event(self, event: str, **fields: Any) -> None:
        if event != "child":
            self.events.append(event)
        elif fields["state"] != "running":  # which child is ready first is theirs
            self.events.append(f"{fields['name']} {fields['state']}")
        self.pids.add(fields.get("pid", 0))

    def run(self, *options: str) -> Result:
        command = ["--model", "signature", "--preset", "acapella", "--osc-port", str(free_port()), *options]
        return CliRunner().invoke(live, command)

    def left_behind(self) -> list[str]:
        return left_behind(self.pids, self.segment)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Stage(monkeypatch)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def faded_out(heard: Collector) -> bool:
    """Something was heard, and it ended in silence without a step."""
    audio = heard.audio
    return bool(audio.any() and not audio[:, -1].any() and largest_step(audio) < 0.01)


def test_it_ends_by_itself_in_order(stage: Stage) -> None:
    assert stage.run("--seconds", "0.3").exit_code == 0
    assert stage.events == STARTED + LIVE + ["faded"] + DEVICE_ENDS + CHILDREN_LEAVE
    assert faded_out(stage.heard)
    assert stage.left_behind() == []


def test_ctrl_c_fades_first_and_a_second_one_cuts_nothing(stage: Stage) -> None:
    stage.device.interrupted_at = "check"
    stage.device.on_stop = staticmethod(lambda: os.kill(os.getpid(), signal.SIGINT))
    assert stage.run().exit_code == 130
    assert stage.events == STARTED + LIVE + ["faded"] + DEVICE_ENDS + CHILDREN_LEAVE
    assert faded_out(stage.heard)
    assert stage.left_behind() == []


def test_ctrl_c_before_the_first_block_has_nothing_to_fade(stage: Stage) -> None:
    stage.device.interrupted_at = "start"
    assert stage.run().exit_code == 130
    assert stage.events == [*STARTED, "device start", *DEVICE_ENDS, *CHILDREN_LEAVE]
    assert stage.left_behind() == []


def test_a_separator_that_never_starts_is_one_line_and_exit_code_2(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_faulty(monkeypatch, tmp_path, "never starts")
    result = stage.run()
    assert result.exit_code == 2
    assert result.stderr.splitlines() == ["Error: no such weights"]
    assert [event for event in stage.events if event.startswith("device")] == ["device open", *DEVICE_ENDS]
    assert stage.events[-1] == "closed"
    assert stage.left_behind() == []


def test_a_port_that_is_taken_is_one_line_and_exit_code_2(stage: Stage) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        result = stage.run("--osc-port", str(other.getsockname()[1]))
    assert result.exit_code == 2
    assert "choose another port" in result.stderr and len(result.stderr.splitlines()) == 1
    assert stage.left_behind() == []


@pytest.mark.parametrize(("host", "lines"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_an_address_that_others_reach_is_warned_about(stage: Stage, host: str, lines: int) -> None:
    result = stage.run("--osc-host", host, "--seconds", "0")
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == lines
    assert all(host in line and "no password" in line for line in warnings)
