"""Time from starting the program to the first stem, warm and cold.

    python -m benchmarks.first_stem [--model builtin] [--runs 5] [--json]

Each run is a fresh process that builds the bridge, starts its separator and feeds it by a file device until a
stem is written. Warm: everything compiled and in the page cache. Cold: an empty cache of compiled code, which
is what the first start after an installation takes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from host.launch import launch_early
from host.models import PLAIN, separator_options

ROOT = Path(__file__).resolve().parents[1]


def one_start(model: str) -> None:
    """Run in a child: print once the first stem is there."""
    launch_early("host.separator_process", json.dumps(separator_options(model, PLAIN)))  # as the commands do
    import numpy as np

    from host.app import BlockRange, Bridge
    from host.file_device import FileDevice, WallClock
    from host.settings import EngineSettings

    bridge = Bridge(EngineSettings(model=model), 44100, lambda event, **fields: None)
    try:
        bridge.start_children()
        bridge.open_epoch(bridge.budget(BlockRange(128, 128)))
        raw = bridge.session.raw[0]

        def stop_at_first(_done: int, _total: int) -> None:
            if raw.end > 0:
                device.stop()

        silence = np.zeros((2, 2 * 44100), np.float32)
        device = FileDevice(bridge.make_engine(), silence, 128, WallClock(44100), on_progress=stop_at_first)
        device.run()
        print("first stem" if raw.end > 0 else "none", flush=True)
    finally:
        bridge.close()


def seconds_to_first_stem(model: str, environment: dict[str, str]) -> float:
    """Wall time from starting a process to its first stem."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.first_stem", "--one", "--model", model]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - started
    if said != "first stem\n":
        raise SystemExit(f"a run gave no stem: {said!r}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one_start(args.model)
        return
    with tempfile.TemporaryDirectory() as empty:
        cold = seconds_to_first_stem(args.model, os.environ | {"NUMBA_CACHE_DIR": empty})
    seconds_to_first_stem(args.model, dict(os.environ))
    warm = [seconds_to_first_stem(args.model, dict(os.environ)) for _ in range(args.runs)]
    result = {"cold_s": cold, "warm_median_s": statistics.median(warm), "warm_max_s": max(warm)}
    text = f"cold {cold:.1f} s, warm median {result['warm_median_s']:.2f} s, max {result['warm_max_s']:.2f} s"
    print(json.dumps(result) if args.json else text)


if __name__ == "__main__":
    main()
