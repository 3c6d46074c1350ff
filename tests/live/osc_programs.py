"""Real OSC programs for tests: `oscsend` and `oscdump` of liblo, and Pure Data."""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host.osc import Message, decode, encode

TIMEOUT_S = 10

needs_liblo = pytest.mark.skipif(
    not (shutil.which("oscsend") and shutil.which("oscdump")),
    reason="oscsend and oscdump are missing (apt-get install liblo-tools)",
)
needs_pure_data = pytest.mark.skipif(
    shutil.which("pd") is None, reason="Pure Data is missing (apt-get install puredata-core)"
)


def oscsend(port: int, *words: str) -> None:
    """`oscsend 127.0.0.1 PORT WORDS`, done when it has sent."""
    subprocess.run(["oscsend", "127.0.0.1", str(port), *words], check=True, timeout=20)


class Dump:
    """A running `oscdump`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process, self._port = process, port

    def knock(self) -> None:
        """Send to it until it shows that it listens."""
        for _ in range(40):
            oscsend(self._port, "/here")
            if select.select([self._process.stdout], [], [], 0.5)[0]:
                return
        pytest.fail("oscdump shows nothing")

    def shown(self, count: int) -> list[list[str]]:
        """The next `count` messages but knocks and status: path, types, values."""
        found: list[list[str]] = []
        assert self._process.stdout is not None
        while len(found) < count:
            if not select.select([self._process.stdout], [], [], TIMEOUT_S)[0]:
                pytest.fail(f"oscdump shows no more than {found}")
            words = self._process.stdout.readline().decode().split()[1:]
            if not words[0].startswith(("/here", "/status")):
                found.append(words)
        return found


@contextmanager
def subscribed_oscdump(server_port: int) -> Iterator[Dump]:
    """An `oscdump` that gets the feedback of the server.

    Feedback goes to a subscription's source address, and oscdump only listens: a socket of the test
    subscribes from the port that oscdump is given afterwards.
    """
    port = subscribe_a_port(server_port)
    command = ["stdbuf", "-oL", "oscdump", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)  # so that `select` sees every line
    try:
        dump = Dump(process, port)
        dump.knock()
        yield dump
    finally:
        process.kill()
        process.communicate()


def subscribe_a_port(server_port: int) -> int:
    """A port of this machine that is subscribed and free again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stand_in:
        stand_in.settimeout(TIMEOUT_S)
        stand_in.bind(("127.0.0.1", 0))
        stand_in.connect(("127.0.0.1", server_port))
        stand_in.send(encode("/subscribe"))
        assert decode(stand_in.recv(8192)) == [Message("/subscribe", (60,))]
        stand_in.send(encode("/ping"))
        while decode(stand_in.recv(8192)) != [Message("/pong")]:
            pass  # the values that every new subscriber is told
        return int(stand_in.getsockname()[1])


@contextmanager
def pure_data(server_port: int, *messages: str) -> Iterator[subprocess.Popen[str]]:
    """Pure Data with the patch of the tests, given `messages` to receive; its stderr has the feedback."""
    said = "; ".join((f"port {server_port}", *messages))
    patch = Path(__file__).with_name("surface.pd")
    command = ["pd", "-nogui", "-noaudio", "-stderr", "-open", str(patch), "-send", said]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()
