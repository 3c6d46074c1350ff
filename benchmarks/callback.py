"""Time of the compiled audio callback and of the engine: python -m benchmarks.callback [--json].

What is timed, and what beside it, is told in host/callback_times.py. Each is timed by the clock, and by the
time that its thread had the processor (`cpu`), which leaves out what other programs take.
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from host.callback_times import HOP, RATE_HZ, time_blocks

GOAL_BLOCK_P999_US, GOAL_HOP_PERCENT = 50.0, 2.0


def summary(microseconds: NDArray[np.float64]) -> dict[str, float]:
    figures = {f"p{q:g}_us": float(np.percentile(microseconds, q)) for q in (50, 99, 99.9)}
    return figures | {"max_us": float(microseconds.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stems", type=int, default=4, help="stems (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=128, help="frames of a block (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=100_000, help="blocks to time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    took, late_hops = time_blocks(options.stems, options.frames, options.blocks)
    hop_us = 1e6 * HOP / RATE_HZ
    report = {
        "stems": options.stems,
        "frames": options.frames,
        "blocks": options.blocks,
        "late_hops": late_hops,
        **{name: summary(values) for name, values in took.items()},
        "hop_overhead_percent": 100 * float(np.median(took["hop"])) / hop_us,
        "hop_overhead_p99_percent": 100 * float(np.percentile(took["hop"], 99)) / hop_us,
    }
    if options.json:
        print(json.dumps(report))
        return
    print(f"{options.blocks} blocks of {options.frames} frames, {options.stems} stems, {late_hops} late hops")
    for name in took:
        print(f"{name:14}", "  ".join(f"{key[:-3]} {value:.1f} us" for key, value in report[name].items()))
    percent, worst = report["hop_overhead_percent"], report["hop_overhead_p99_percent"]
    print(f"engine per hop {percent:.2f}% of the hop, p99 {worst:.2f}%")
    print(f"goals: block p99.9 < {GOAL_BLOCK_P999_US:g} us, engine < {GOAL_HOP_PERCENT:g}% of a hop")


if __name__ == "__main__":
    main()
