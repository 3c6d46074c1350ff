"""Time of the compiled audio callback and of the engine: python -m benchmarks.callback [--json].

Each block is timed by the clock, and by the time that its thread had the processor (`cpu`), which leaves out
what other programs take. Beside it a callback that does nothing shows what timing costs, and a loop of
arithmetic that takes as long and touches no memory shows what this machine's interrupts cost anything of that
length. The overhead of the engine is one step of the worker with the signature separator: timelines read and
written, a delay line and a product in between.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numba import cfunc
from numpy.typing import NDArray

from streaming.callback import STREAM_CALLBACK, Engine, stream_callback
from streaming.health import LATE_HOPS
from streaming.latency import buffering_frames
from streaming.separator import SignatureSeparator
from streaming.session import Session, SessionSpec
from streaming.snapshot import PLAN, neutral_controls
from streaming.worker import HopWorker

RATE_HZ, HOP, CHANNELS = 44100, 441, 2
GOAL_BLOCK_P999_US, GOAL_HOP_PERCENT = 50.0, 2.0


@cfunc(STREAM_CALLBACK)
def nothing(device_in, device_out, frames, time_info, flags, userdata):
    return 0


@cfunc(STREAM_CALLBACK)
def arithmetic(device_in, device_out, rounds, time_info, flags, userdata):
    x = 1.0
    for _ in range(rounds):
        x = x * 1.0000001 + 1e-9
    return int(x < 0.0)


def rounds_taking(microseconds: float) -> int:
    """How many rounds of `arithmetic` last that long."""
    sample = min(nanoseconds(arithmetic.ctypes, None, None, 10_000, None, 0, None)[0] for _ in range(200))
    return round(10_000 * microseconds * 1e3 / sample)


@contextmanager
def running_engine(stems: int, block_frames: int) -> Iterator[tuple[Session, Engine, HopWorker]]:
    names = tuple(f"stem{stem}" for stem in range(stems))
    stage = SignatureSeparator(RATE_HZ, names, HOP, 2 * HOP)
    spec = SessionSpec(RATE_HZ, CHANNELS, names, HOP, stage.latency_frames, (False,) * stems, 100 * HOP)
    session = Session.create(spec)
    plan = np.zeros(1, PLAN)
    plan["epoch"] = 1
    plan["latency_frames"] = stage.latency_frames + buffering_frames(block_frames, HOP, 1)
    session.plan.publish(plan)
    session.controls.publish(moving_controls(0))
    yield session, Engine(session), HopWorker(session.dry, session.raw, stage, session.health)
    session.close()
    session.unlink()


def moving_controls(block: int) -> NDArray[np.void]:
    """Faders that are never at rest."""
    controls = neutral_controls()
    controls["strip_gain"][0, :4] = 0.5 + 0.4 * np.sin(0.01 * block + np.arange(4))
    return controls


def nanoseconds(function, *arguments) -> tuple[int, int]:
    """(by the clock, on the processor)."""
    clock, cpu = time.perf_counter_ns(), time.thread_time_ns()
    function(*arguments)
    return time.perf_counter_ns() - clock, time.thread_time_ns() - cpu


def time_blocks(stems: int, frames: int, blocks: int) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Microseconds of blocks, arithmetic as long, idle callbacks and worker steps; late hops."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (100, frames, CHANNELS)).astype(np.float32)
    out = np.zeros((frames, CHANNELS), np.float32)
    took: dict[str, list[tuple[int, int]]] = {"block": [], "arithmetic": [], "nothing": [], "hop": []}
    with running_engine(stems, frames) as (session, engine, worker):
        for block in range(blocks):
            if block % 10 == 0:
                session.controls.publish(moving_controls(block))
            source = noise[block % 100]
            arguments = source.ctypes.data, out.ctypes.data, frames, None, 0, engine.userdata.ctypes.data
            took["nothing"].append(nanoseconds(nothing.ctypes, *arguments))
            took["block"].append(nanoseconds(stream_callback.ctypes, *arguments))
            if block == 1000:
                rounds = rounds_taking(float(np.median(took["block"], axis=0)[0]) / 1e3)
            if block >= 1000:
                took["arithmetic"].append(nanoseconds(arithmetic.ctypes, None, None, rounds, None, 0, None))
            if (block + 1) * frames // HOP != block * frames // HOP:
                took["hop"].append(nanoseconds(worker.step))
        late = session.health.count(LATE_HOPS)
    microseconds = {name: np.array(values) / 1e3 for name, values in took.items()}
    clock = {name: values[:, 0] for name, values in microseconds.items()}
    return clock | {f"{name}_cpu": values[:, 1] for name, values in microseconds.items()}, late


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
