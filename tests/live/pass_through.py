"""A process that hands its input to its output through `host.portaudio`: `RATE BLOCK compiled|python`."""

from __future__ import annotations

import signal
import sys
import threading

import numpy as np
from numba import carray, cfunc, types

from host import portaudio
from host.portaudio import CompiledCallback, StreamSettings

ULONG = types.uint32 if np.dtype("L").itemsize == 4 else types.uint64
STREAM_CALLBACK = types.int32(types.voidptr, types.voidptr, ULONG, types.voidptr, ULONG, types.voidptr)


@cfunc(STREAM_CALLBACK, error_model="numpy", cache=True)
def compiled(device_in, device_out, frames, _time, _flags, userdata):  # type: ignore[no-untyped-def]
    source = carray(device_in, (frames, 2), np.float32)
    target = carray(device_out, (frames, 2), np.float32)
    carray(userdata, (1,), np.int64)[0] += frames
    for i in range(frames):
        target[i, 0] = source[i, 0]
        target[i, 1] = source[i, 1]
    return np.int32(0)


def python(device_in, device_out, _flags):  # type: ignore[no-untyped-def]
    device_out[:] = device_in


def main(rate_hz: int, block_frames: int, kind: str) -> None:
    callback = python if kind == "python" else CompiledCallback(compiled.address, np.zeros(1, np.int64))
    devices = portaudio.list_devices()
    source, target = (portaudio.find_device("jack", side, devices) for side in ("input", "output"))  # type: ignore[arg-type]
    settings = StreamSettings(rate_hz=rate_hz, block_frames=block_frames)
    stream = portaudio.open_stream(settings, callback, source, target)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    stream.start()
    print("started", flush=True)
    ended.wait()
    stream.stop()
    stream.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
