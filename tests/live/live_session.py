"""A `stembridge live` with the signature separator on a test server, and what to play into it."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.live.jack import ROOT, Audio, Server

HALF = 0.5
TAIL_S = 0.5
STEP_TOLERANCE = 0.05
RECOVERY_S = 5.0

Event = dict[str, Any]


class Live:
    """A running `stembridge live`, the events it prints, and the port on which it takes OSC."""

    def __init__(self, process: subprocess.Popen[str], osc_port: int) -> None:
        self.process, self.osc_port = process, osc_port
        self.seen: list[Event] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def wait_for(self, name: str, timeout_s: float = 180.0) -> Event:
        """The next event called `name`; fails with what was said when it does not come."""
        deadline = time.monotonic() + timeout_s
        while line := self._lines.get(timeout=max(0.0, deadline - time.monotonic())):
            self.seen.append(json.loads(line))
            if self.seen[-1]["event"] == name:
                return self.seen[-1]
        raise AssertionError(
            f"live ended without '{name}': {self.seen} {self.process.communicate()[1][-2000:]}"
        )

    def pid_of(self, child: str) -> int:
        """The process id of a child that was seen running, the newest."""
        pids = [e["pid"] for e in self.seen if (e.get("name"), e.get("state")) == (child, "running")]
        return int(pids[-1])

    def end(self) -> Event:
        """Interrupt it as a user would, and return its last event."""
        self.process.send_signal(signal.SIGINT)
        last = self.wait_for("end", 30.0)
        assert self.process.wait(30) == 130
        return last


@contextmanager
def live(server: Server, *options: str) -> Iterator[Live]:
    command = f"-m host live --model signature --input jack --output jack --rate {server.rate_hz} --json"
    osc_port = free_port()
    process = subprocess.Popen(
        [sys.executable, *command.split(), "--osc-port", str(osc_port), *options],
        cwd=ROOT,
        env=server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Live(process, osc_port)
    finally:
        if process.poll() is None:
            process.terminate()  # a killed client would wedge the server
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


EXACT = ("--preset", "acapella", "--fallback", "silence", "--allowance-ms", "50")


def music(rate_hz: int, seconds: float) -> Audio:
    """Noise, and the silence in which its last frames come out, [2, frames]; too weak for the limiter."""
    frames = round(rate_hz * seconds)
    signal_ = np.zeros((2, frames + round(TAIL_S * rate_hz)), np.float32)
    signal_[:, :frames] = np.random.default_rng(11).uniform(-0.9, 0.9, (2, frames))
    return signal_


def soft_ended_tone(rate_hz: int, seconds: float) -> Audio:
    """220 Hz, faded out over its last 0.1 s, and the silence in which it comes out, [2, frames]."""
    tone = 0.5 * np.sin(2 * np.pi * 220 * np.arange(round(rate_hz * seconds)) / rate_hz)
    played = np.zeros((2, tone.size + round(TAIL_S * rate_hz)), np.float32)
    played[:, : tone.size] = tone * np.minimum(1, np.arange(tone.size)[::-1] / (0.1 * rate_hz))
    return played
