"""Parts of the engine by themselves: timeline write and read, waking a waiting process.

Run: python -m benchmarks.engine_parts
"""

import subprocess
import sys
import time

import numpy as np

from streaming.compiled import compiled
from streaming.segment import Field, Segment
from streaming.timeline import HEADER_WORDS, timeline_end, timeline_read, timeline_write
from streaming.wakeup import WORDS, Wakeup

LOOPS = 100_000
WAKES = 2_000
PAUSE_S = 0.002


@compiled
def write_many(header, data, block, loops):
    for _ in range(loops):
        timeline_write(header, data, timeline_end(header), block, block.shape[1])


@compiled
def read_many(header, data, out, loops):
    for i in range(loops):
        frame = timeline_end(header) - data.shape[1] + (i * 37) % (data.shape[1] - out.shape[1])
        timeline_read(header, data, frame, out, out.shape[1])


def loop_us(function, *arguments):
    function(*arguments, 1)
    began = time.perf_counter()
    function(*arguments, LOOPS)
    return (time.perf_counter() - began) / LOOPS * 1e6


def timeline_us(frames):
    """Microseconds of one write and one read of 2 channels, inside compiled code."""
    header, data = np.zeros(HEADER_WORDS, np.int64), np.zeros((2, 65536), np.float32)
    block = np.ones((2, frames), np.float32)
    return loop_us(write_many, header, data, block), loop_us(read_many, header, data, block)


def wake_up_us():
    """Microseconds from `post` to the return of `wait` in another process, sorted."""
    fields = [
        Field("wake", (WORDS,), "int64"),
        Field("posted", (1,), "int64"),
        Field("took", (WAKES,), "int64"),
    ]
    segment = Segment.create(fields, {})
    wakeup = Wakeup(segment.array("wake"), create=True)
    waiter = subprocess.Popen([sys.executable, "-m", "benchmarks.engine_parts", segment.name])
    took = segment.array("took")
    posted = segment.array("posted")
    try:
        while waiter.poll() is None:
            time.sleep(PAUSE_S)
            posted[0] = time.monotonic_ns()
            wakeup.post()
        return np.sort(took) / 1e3
    finally:
        waiter.kill()
        waiter.wait()
        segment.close()
        segment.unlink()


def wait_and_note(name):
    segment = Segment.attach(name)
    wakeup = Wakeup(segment.array("wake"), create=False)
    posted, took = segment.array("posted"), segment.array("took")
    wakeup.wait(10.0)
    for i in range(WAKES):
        wakeup.wait(10.0)
        took[i] = time.monotonic_ns() - posted[0]


def main():
    for frames in (64, 128, 512, 1024):
        write, read = timeline_us(frames)
        print(f"timeline, 2 x {frames:4} frames: write {write:.3f} us, read {read:.3f} us")
    took = wake_up_us()
    p50, p99 = took[WAKES // 2], took[WAKES * 99 // 100]
    print(f"wake-up across processes: p50 {p50:.0f} us, p99 {p99:.0f} us, max {took[-1]:.0f} us")


if __name__ == "__main__":
    wait_and_note(sys.argv[1]) if len(sys.argv) > 1 else main()
