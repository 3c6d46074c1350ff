"""The watchdog: a stream that stands still is reported and reopened, by a fake library and a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from host import portaudio
from host.audio_device import AudioDevice, DeviceState, devices_as_rows, devices_as_text, running
from host.portaudio import JACK, DeviceError, DeviceInfo, StreamSettings
from tests.live.jack import ROOT, NoServerError, fork_server, needs_server, remove_leftovers, stop

CARD = DeviceInfo(3, "Card", "ALSA", 2, 2, 48000, True, False)


class World:
    """A fake PortAudio: one card, which may be away, and a stream that counts blocks while the clock runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, card: DeviceInfo = CARD) -> None:
        self.card = card
        self.there = True
        self.calls: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.now = 0.0
        self.blocks = 0
        self.active = True
        monkeypatch.setattr(portaudio, "list_devices", lambda: [self.card] if self.there else [])
        monkeypatch.setattr(portaudio, "open_stream", self.open_stream)
        for name in ("rescan", "renew", "leave"):
            monkeypatch.setattr(portaudio, name, lambda name=name: self.calls.append(name))
        settings = StreamSettings(input_device="Card", output_device="Card")
        self.device = AudioDevice(
            settings,
            lambda *_: None,
            lambda: self.blocks,
            lambda *event: self.events.append(event),
            self.clock,
        )

    def clock(self) -> float:
        return self.now

    def open_stream(self, settings: StreamSettings, *_: Any) -> World:
        self.calls.append("open")
        return self

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")

    def go(self, seconds: float, blocks: int) -> None:
        """Let time pass and blocks come, looking every 0.25 s."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            self.blocks += blocks
            self.device.check()

    @property
    def told(self) -> list[str]:
        return [event for event, _ in self.events]


def test_a_stream_that_moves_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    with running(world.device):
        world.go(60, blocks=1)
        world.go(0.75, blocks=0)
        world.go(1, blocks=1)
    assert world.events == []
    assert world.calls == ["open", "start", "stop", "abort", "close"]
    assert world.device.state is DeviceState.CLOSED


def test_a_stream_that_stands_still_for_a_second_is_reported_and_reopened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    world.device.open()
    world.device.start()
    world.go(0.75, blocks=0)
    assert world.events == []
    world.go(0.25, blocks=0)
    assert world.told == ["stalled", "reopened"]
    assert "no block for 1.0 s" in world.events[0][1]
    assert world.calls == ["open", "start", "abort", "close", "rescan", "open", "start"]
    world.go(5, blocks=1)
    assert world.told == ["stalled", "reopened"]


def test_a_card_that_is_pulled_out_is_found_again_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.device.open()
    world.device.start()
    world.there = False
    world.go(4, blocks=0)
    assert world.told == ["stalled", "lost"]  # once, however often it is tried
    assert world.device.state is DeviceState.LOST
    world.there, world.card = True, replace(CARD, index=9)
    world.go(1, blocks=0)
    assert world.told == ["stalled", "lost", "reopened"]
    assert world.device.devices[0].index == 9


def test_a_hung_jack_server_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, replace(CARD, api=JACK))
    world.device.open()
    world.device.start()
    world.go(5, blocks=0)
    assert world.told == ["stalled"] and world.calls == ["open", "start"]
    world.go(1, blocks=1)
    assert world.told == ["stalled", "resumed"] and world.device.state is DeviceState.RUNNING


def test_a_jack_server_that_has_gone_is_left_and_sought_with_a_new_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, replace(CARD, api=JACK))
    world.device.open()
    world.device.start()
    world.active = False
    world.go(1, blocks=0)
    assert world.calls == ["open", "start", "leave", "renew", "open", "start"]
    assert world.told == ["stalled", "reopened"]


def test_a_failed_start_is_one_line_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)

    class PortAudioError(Exception):
        pass

    def refuse() -> None:
        raise PortAudioError("cannot start", portaudio.DEVICE_UNAVAILABLE)

    monkeypatch.setattr(world, "start", refuse)
    monkeypatch.setattr(portaudio, "library", lambda: type("Library", (), {"PortAudioError": PortAudioError}))
    with pytest.raises(DeviceError, match="busy or gone"), running(world.device):
        pass
    assert world.calls == ["open", "abort", "close"]


def test_devices_are_told_as_text_and_as_json() -> None:
    assert devices_as_text([CARD]) == ">    3  Card  [ALSA]  2 in, 2 out, 48000 Hz"
    assert "stembridge doctor" in devices_as_text([])
    assert json.loads(json.dumps(devices_as_rows([CARD])))[0]["name"] == "Card"


WATCHED = """
import json, sys, time
from host.audio_device import AudioDevice, running
from host.portaudio import StreamSettings
blocks = [0]
def count(device_in, device_out, flags):
    blocks[0] += 1
    device_out[:] = device_in
def tell(event, text):
    print(json.dumps([event, blocks[0]]), flush=True)
settings = StreamSettings(input_device="jack", output_device="jack")
device = AudioDevice(settings, count, lambda: blocks[0], tell)
with running(device):
    tell("running", "")
    while sys.stdin not in __import__("select").select([sys.stdin], [], [], 0.2)[0]:
        device.check()
tell("closed", "")
"""


@pytest.mark.device
@needs_server
def test_a_server_that_is_restarted_is_joined_again() -> None:
    name = f"watched-{os.getpid()}"
    environment = os.environ | {"JACK_DEFAULT_SERVER": name, "JACK_NO_START_SERVER": "1"}
    server = fork_server(name, 44100, 512)
    child = subprocess.Popen(
        [sys.executable, "-c", WATCHED],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())[0] == "running"
        time.sleep(0.5)
        stop(server)
        assert [json.loads(child.stdout.readline())[0] for _ in range(2)] == ["stalled", "lost"]
        server = fork_server(name, 44100, 512)
        reopened, blocks_then = json.loads(child.stdout.readline())
        time.sleep(0.5)
        rest, _ = child.communicate("\n", timeout=20)
        closed, blocks_last = json.loads(rest)
        assert (reopened, closed) == ("reopened", "closed")
        assert blocks_last > blocks_then > 0
    finally:
        child.kill()
        child.communicate()
        stop(server)
        remove_leftovers(name)


@pytest.mark.device
@needs_server
def test_a_test_server_that_does_not_start_says_why() -> None:
    with pytest.raises(NoServerError, match='Unknown driver "nonsense"'):
        fork_server(f"broken-{os.getpid()}", 44100, 512, "-X nonsense")
