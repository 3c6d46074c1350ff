"""Two processes on one timeline: overruns, new runs, and a writer that is killed and comes back."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from streaming.segment import Field, Segment
from streaming.timeline import END, EPOCH, HEADER_WORDS
from tests.streaming.timeline_stress import CAPACITY, read_and_check

ROOT = Path(__file__).parents[2]
FRAMES = 50_000_000
KILLS = 4
READS_PER_LOOK = 64


def start_writer(name, seed):
    command = [sys.executable, "-m", "tests.streaming.timeline_stress", name, str(seed), str(FRAMES)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_nothing_torn_is_ever_valid_over_50_million_frames():
    fields = [
        Field("header", (HEADER_WORDS,), "int64"),
        Field("data", (2, CAPACITY), "float32"),
        Field("written", (8,), "int64"),
    ]
    segment = Segment.create(fields, {})
    header, data, written = (segment.array(field.name) for field in fields)
    out = np.empty((2, CAPACITY), np.float32)
    counts = np.zeros(4, np.int64)
    seed = read_and_check(header, data, out, 1, 1, counts)  # compiled before the first writer starts
    try:
        for life in range(KILLS + 1):
            writer = start_writer(segment.name, seed)
            while written[0] < FRAMES * (life + 1) // (KILLS + 1):
                seed = read_and_check(header, data, out, seed, READS_PER_LOOK, counts)
                assert writer.poll() is None or writer.returncode == 0, writer.stderr.read()
            if life < KILLS:
                writer.kill()
            writer.communicate()
            # What the dead left behind must be whole too.
            seed = read_and_check(header, data, out, seed, READS_PER_LOOK, counts)
            assert counts[2] == 0
        assert written[0] >= FRAMES and header[END] != 0
        assert counts[1] > 0 and counts[3] > 0
    finally:
        segment.close()
        segment.unlink()
    print(
        f"reads {counts[0]}, frames checked {counts[1]}, cut reads {counts[3]}, epochs {header[EPOCH] // 2}"
    )
