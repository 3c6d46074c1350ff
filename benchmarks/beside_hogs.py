"""Blocks lost beside hogs: python -m benchmarks.beside_hogs [--seconds 20] [--block 128] [--json].

A JACK server that does not wait for late clients has two of them: `stembridge live` with its compiled
callback, beside a thread that holds the interpreter lock, and a compiled pass-through without such a thread.
Another process takes all the processor it can get. A player writes the server's block number into every
block; a number that a client never saw is a block that it lost. A second run has a pass-through in Python in
the place of `live`, to show that the thread bites.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numba import carray, cfunc

from host import portaudio
from host.app import LiveApp
from host.portaudio import CompiledCallback, StreamSettings
from host.settings import EngineSettings, LiveSettings
from streaming.callback import STREAM_CALLBACK
from streaming.health import XRUNS
from tests.live.jack import GOES_ON, ROOT, Server, jack_server

RATE_HZ = 44100
LIVE, PASS_THROUGH, PYTHON = CLIENTS = ("live", "compiled", "python")
MOST_BLOCKS = 1 << 16
XRUN_FLAGS = 0b1111
POLL_S = 0.2
SETTLE_S = 1.0


# The clients. Each prints {"seen": [block numbers], "xruns": n} once its stdin ends.


def spin() -> None:
    while True:
        pass


def wait_for_the_end() -> None:
    print("started", flush=True)
    sys.stdin.read()


@cfunc(STREAM_CALLBACK, error_model="numpy")
def pass_through(device_in, device_out, frames, _time, flags, userdata):
    source = carray(device_in, (frames, 2), np.float32)
    target = carray(device_out, (frames, 2), np.float32)
    notes = carray(userdata, (2 + MOST_BLOCKS,), np.int64)
    for i in range(frames):
        target[i, 0] = source[i, 0]
        target[i, 1] = source[i, 1]
    if flags & XRUN_FLAGS:
        notes[1] += 1
    if notes[0] < MOST_BLOCKS:
        notes[2 + notes[0]] = np.int64(source[0, 0] * (2 * MOST_BLOCKS))
        notes[0] += 1
    return np.int32(0)


def in_python(notes: np.ndarray) -> Callable[..., None]:
    def callback(device_in, device_out, flags):
        device_out[:] = device_in
        notes[1] += bool(flags & XRUN_FLAGS)
        notes[2 + notes[0]] = int(device_in[0, 0] * (2 * MOST_BLOCKS))
        notes[0] += 1

    return callback


def run_pass_through(kind: str) -> tuple[np.ndarray, int]:
    notes = np.zeros(2 + MOST_BLOCKS, np.int64)
    callback = in_python(notes) if kind == PYTHON else CompiledCallback(pass_through.address, notes)
    devices = portaudio.list_devices()
    source, target = (portaudio.find_device("jack", side, devices) for side in ("input", "output"))
    stream = portaudio.open_stream(StreamSettings(rate_hz=RATE_HZ), callback, source, target)
    stream.start()
    wait_for_the_end()
    stream.stop()
    stream.close()
    return notes[2 : 2 + notes[0]], int(notes[1])


def run_live(block_frames: int) -> tuple[np.ndarray, int]:
    stream = StreamSettings(rate_hz=RATE_HZ, input_device="jack", output_device="jack")
    settings = LiveSettings(EngineSettings("signature", allowance_ms=50), stream, osc_port=0)
    app = LiveApp(settings, lambda event, **fields: None)
    try:
        app.start()
        session = app.bridge.session
        return read_dry(session.dry, block_frames), session.health.count(XRUNS)
    finally:
        app.stop()


def read_dry(dry, block_frames: int) -> np.ndarray:
    """Block numbers in the dry timeline, until stdin ends."""
    ended = threading.Event()
    threading.Thread(target=lambda: (wait_for_the_end(), ended.set()), daemon=True).start()
    frame, found = dry.end, []
    while not ended.wait(POLL_S):
        piece = np.zeros((2, dry.end - frame), np.float32)
        assert dry.read(frame, piece) == (0, piece.shape[1]), "the reader was too slow"
        found.append(piece[0, ::block_frames])
        frame += piece.shape[1]
    return (np.concatenate(found) * (2 * MOST_BLOCKS)).astype(np.int64)


def run_client(kind: str, block_frames: int) -> None:
    if kind != PASS_THROUGH:
        threading.Thread(target=spin, daemon=True).start()
    seen, xruns = run_live(block_frames) if kind == LIVE else run_pass_through(kind)
    print(json.dumps({"seen": seen[seen > 0].tolist(), "xruns": xruns}), flush=True)
    os._exit(0)  # the spinning thread would fight the interpreter's end


# The player


def play_block_numbers(server: Server, seconds: float) -> None:
    """Write the server's block number, counted from 1, into each of its blocks for all clients."""
    import jack

    player = jack.Client("player", servername=server.name, no_start_server=True)
    out = player.outports.register("out")
    first: list[int] = []

    @player.set_process_callback
    def play(frames: int) -> None:
        now = player.last_frame_time
        first[:] = first or [now]
        out.get_array()[:] = ((now - first[0]) // frames % MOST_BLOCKS + 1) / (2 * MOST_BLOCKS)

    with player:
        for port in player.get_ports(is_audio=True, is_input=True):
            if not port.name.startswith("system:"):
                for other in player.get_all_connections(port):
                    player.disconnect(other, port)
                player.connect(out, port)
        time.sleep(seconds)


# The measurement


@contextlib.contextmanager
def processor_hog() -> Iterator[None]:
    hog = multiprocessing.get_context("fork").Process(target=spin)
    hog.start()
    try:
        yield
    finally:
        hog.kill()
        hog.join()


def start_client(server: Server, kind: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.beside_hogs", "--client", kind]
    process = subprocess.Popen(
        [*command, "--block", str(server.block_frames)],
        cwd=ROOT,
        env=server.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "started\n", f"the {kind} client did not start"
    return process


def measure(kind: str, seconds: float, block_frames: int) -> dict[str, int]:
    """Blocks in all, and those that the client and the pass-through lost, alone or together."""
    with jack_server(RATE_HZ, block_frames, GOES_ON) as server:
        clients = [start_client(server, each) for each in (kind, PASS_THROUGH)]
        time.sleep(SETTLE_S)
        with processor_hog():
            play_block_numbers(server, seconds)
        client, other = (json.loads(process.communicate("")[0]) for process in clients)
    seen, seen_by_other = set(client["seen"]), set(other["seen"])
    whole = set(range(max(min(seen), min(seen_by_other)), min(max(seen), max(seen_by_other)) + 1))
    return {
        "blocks": len(whole),
        "lost": len(whole - seen),
        "lost_by_pass_through": len(whole - seen_by_other),
        "lost_alone": len((whole & seen_by_other) - seen),
        "lost_by_pass_through_alone": len((whole & seen) - seen_by_other),
        "xruns": client["xruns"],
        "xruns_of_pass_through": other["xruns"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.client:
        run_client(chosen.client, chosen.block)
        return
    result = {kind: measure(kind, chosen.seconds, chosen.block) for kind in (LIVE, PYTHON)}
    if chosen.json:
        print(json.dumps({"block_frames": chosen.block, "seconds": chosen.seconds, **result}))
        return
    print(f"Blocks of {chosen.block} frames, each client beside a compiled pass-through and two hogs:")
    columns = list(result[LIVE])
    print(f"{'':8}", *columns, sep="  ")
    for kind, row in result.items():
        print(f"{kind:8}", *(f"{row[column]:{len(column)}}" for column in columns), sep="  ")


if __name__ == "__main__":
    main()
