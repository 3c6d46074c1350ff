"""A sound card for tests: one fresh `jackd` on the dummy driver, and an independent player and recorder.

The player and the recorder are JACK clients in a process of their own, so the interpreter lock of the test
never touches them. The recorder holds what was played and what came back in one recording: their distance is
the latency, whatever else happened. They are two clients, since one that is both would close a loop in the
graph, and JACK delays a loop by one block.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = 2
WAITS = "-r -S"  # for late clients, which keeps audio exact under load
GOES_ON = "-R -P 20"  # without late clients, with real-time scheduling where permitted, as a sound card does
SETTLE_S = 0.3  # until the server's graph runs in the order of the connections just made

Audio = NDArray[np.float32]


def why_no_server() -> str | None:
    """What this machine lacks for a test server, or None."""
    missing = [tool for tool in ("jackd", "jack_wait") if shutil.which(tool) is None]
    return f"no {' and no '.join(missing)} (apt-get install jackd2 libportaudio2)" if missing else None


needs_server = pytest.mark.skipif(why_no_server() is not None, reason=str(why_no_server()))


@dataclass(frozen=True)
class Server:
    """A running server: what a client needs in its environment to find it."""

    name: str
    rate_hz: int
    block_frames: int

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"JACK_DEFAULT_SERVER": self.name, "JACK_NO_START_SERVER": "1"}


@contextmanager
def jack_server(rate_hz: int, block_frames: int, mode: str = WAITS) -> Iterator[Server]:
    """One fresh server."""
    name = f"stembridge-{uuid.uuid4().hex[:8]}"
    process = fork_server(name, rate_hz, block_frames, mode)
    try:
        yield Server(name, rate_hz, block_frames)
    finally:
        stop(process)
        remove_leftovers(name)


class NoServerError(RuntimeError):
    """A test server that did not come up, with what it said."""


def fork_server(name: str, rate_hz: int, block_frames: int, mode: str = WAITS) -> subprocess.Popen[bytes]:
    """A server called `name` that takes clients when this returns; end it with `stop`."""
    command = f"jackd -n {name} -m {mode} -t 5000 -d dummy -r {rate_hz} -p {block_frames}"
    with tempfile.TemporaryFile() as said:  # the server keeps its own handle
        process = subprocess.Popen(command.split(), stdout=said, stderr=subprocess.STDOUT)
        if comes_up(name, process):
            return process
        stop(process)
        said.seek(0)
        raise NoServerError(f"{command}\n{said.read().decode(errors='replace')[-2000:]}")


def comes_up(name: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server takes clients; False when it ends before or takes too long."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for _ in range(10):
        if process.poll() is not None:
            return False
        answer = subprocess.run(["jack_wait", "-s", name, "-w", "-t", "1"], **quiet)  # type: ignore[call-overload]
        if answer.returncode == 0:
            return True
    return False


def remove_leftovers(name: str) -> None:
    """Remove what a killed server and killed clients leave in shared memory."""
    for path in Path("/dev/shm").glob(f"*{name}*"):
        path.unlink(missing_ok=True)
    free_places(Path("/dev/shm/jack-shm-registry"))


def free_places(registry: Path) -> None:
    """Give back the places of dead servers in JACK's registry: it has 8, and a killed server keeps its own.

    Header of 24 bytes, then for each server its process id (int32) and its name, 264 bytes together.
    """
    if not registry.exists():
        return
    with registry.open("r+b") as file:
        for at in range(24, 24 + 8 * 264, 264):
            file.seek(at)
            pid = int.from_bytes(file.read(4), sys.byteorder)
            if pid and not Path(f"/proc/{pid}").exists():
                file.seek(at)
                file.write(bytes(264))


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a child to end, and make it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Recording:
    """What was played into the client under test and what it gave back, each [channels, frames]."""

    played: Audio
    heard: Audio


def play_and_record(server: Server, signal: Audio, folder: Path) -> Recording:
    """Play `signal` [2, frames] through the server's one other client and record both ends.

    The recording is as long as the signal, so append silence as long as the latency that is expected.
    """
    with start_player(server, signal, folder) as player:
        return player.finish()


@contextmanager
def start_player(server: Server, signal: Audio, folder: Path) -> Iterator[Player]:
    """The same in the background, for tests that do something meanwhile; `finish()` waits for its end."""
    np.save(folder / "signal.npy", signal)
    command = [sys.executable, "-m", "tests.live.jack", server.name, str(folder)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            raise RuntimeError(f"the player did not start: {process.communicate()[1].strip()[-500:]}")
        yield Player(process, folder)
    finally:
        process.kill()
        process.communicate()


class Player:
    """A player at work; it is connected and playing once it exists."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def finish(self, timeout_s: float = 120.0) -> Recording:
        _, errors = self._process.communicate(timeout=timeout_s)
        if self._process.returncode:
            raise RuntimeError(f"the player failed: {errors.strip()[-500:]}")
        recording = np.load(self._folder / "recording.npy")
        return Recording(recording[:CHANNELS], recording[CHANNELS:])


@contextmanager
def start_pass_through(server: Server, stream_block_frames: int, kind: str) -> Iterator[None]:
    """A client of `host.portaudio` that hands its input through, in its own process."""
    arguments = [str(server.rate_hz), str(stream_block_frames), kind]
    command = [sys.executable, "-m", "tests.live.pass_through", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        yield
    finally:
        stop(process)  # not killed first: a server waits long for a client that vanished
        process.communicate()


def shift_of(recording: Recording, limit_frames: int = 20000) -> int:
    """Frames from the played to the heard signal: the place of the largest cross-correlation."""
    size = 1 << int(np.ceil(np.log2(recording.played.shape[1] + limit_frames)))
    played, heard = (np.fft.rfft(side[0], size) for side in (recording.played, recording.heard))
    correlation = np.fft.irfft(heard * np.conj(played), size)
    return int(np.argmax(correlation[:limit_frames]))


def frames_that_differ(recording: Recording, shift_frames: int, gain: float = 1.0) -> int:
    """Frames in which what was heard is not exactly `gain` times what was played `shift_frames` before."""
    length = recording.played.shape[1] - shift_frames
    expected = np.float32(gain) * recording.played[:, :length]
    return int(np.any(recording.heard[:, shift_frames:] != expected, axis=0).sum())


# The process of the player and recorder


def _client_ports(client: object, own: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Inputs and outputs of the only client that is neither the driver nor ours; waits for it to appear."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        ports = [p for p in client.get_ports(is_audio=True) if not p.name.startswith(("system:", *own))]  # type: ignore[attr-defined]
        inputs = [p.name for p in ports if p.is_input]
        outputs = [p.name for p in ports if p.is_output]
        if inputs and outputs:
            return inputs, outputs
        time.sleep(0.05)
    raise SystemExit("no client with inputs and outputs appeared on the server within 10 s")


def _run(server: str, folder: Path) -> None:
    import jack

    signal = np.load(folder / "signal.npy")
    frames = signal.shape[1]
    recording = np.zeros((2 * CHANNELS, frames), np.float32)
    player = jack.Client("player", servername=server, no_start_server=True)
    recorder = jack.Client("recorder", servername=server, no_start_server=True)
    plays = [player.outports.register(f"out_{c}") for c in range(CHANNELS)]
    records = [recorder.inports.register(f"in_{c}") for c in range(2 * CHANNELS)]
    position = {"play": 0, "record": 0, "start": 0}

    @player.set_process_callback  # type: ignore[untyped-decorator]
    def play(block: int) -> None:
        at = position["play"]
        piece = signal[:, at : at + block] if position["start"] else signal[:, :0]
        for port, samples in zip(plays, piece, strict=True):
            out = port.get_array()
            out[: samples.size] = samples
            out[samples.size :] = 0.0
        position["play"] += piece.shape[1]

    @recorder.set_process_callback  # type: ignore[untyped-decorator]
    def record(block: int) -> None:
        at = position["record"]
        if at == position["play"] == 0 or at >= frames:
            return
        piece = recording[:, at : at + block]
        for port, samples in zip(records, piece, strict=True):
            samples[:] = port.get_array()[: samples.size]
        position["record"] += piece.shape[1]

    with player, recorder:
        _connect(player, plays, records)
        time.sleep(SETTLE_S)
        position["start"] = 1
        print(json.dumps({"event": "playing"}), flush=True)
        while position["record"] < frames:
            time.sleep(0.02)
    np.save(folder / "recording.npy", recording)


def _connect(client: object, plays: list[object], records: list[object]) -> None:
    """Cut what the client under test was connected to by itself, and put it between player and recorder."""
    inputs, outputs = _client_ports(client, ("player:", "recorder:"))
    for name in inputs + outputs:
        port = client.get_port_by_name(name)  # type: ignore[attr-defined]
        for other in client.get_all_connections(port):  # type: ignore[attr-defined]
            source, target = (other, port) if port.is_input else (port, other)
            client.disconnect(source, target)  # type: ignore[attr-defined]
    pairs = [*zip(plays, inputs, strict=False), *zip(plays, records[:CHANNELS], strict=True)]
    pairs += zip(outputs, records[CHANNELS:], strict=False)
    for source, target in pairs:
        client.connect(source, target)  # type: ignore[attr-defined]


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]))
