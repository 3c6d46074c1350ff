"""How long the compiled audio callback and a step of the engine's worker take on this machine.

Beside each block a callback that does nothing shows what timing costs, and a loop of arithmetic that takes as
long and touches no memory shows what this machine's interrupts cost anything of that length. A step of the
worker is measured with the signature separator: timelines read and written, a delay line and a product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
SETTLING_BLOCKS = 1000


@cfunc(STREAM_CALLBACK)
def nothing(device_in, device_out, frames, time_info, flags, userdata):  # type: ignore[no-untyped-def]
    return 0


@cfunc(STREAM_CALLBACK)
def arithmetic(device_in, device_out, rounds, time_info, flags, userdata):  # type: ignore[no-untyped-def]
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
    try:
        yield session, Engine(session), HopWorker(session.dry, session.raw, stage, session.health)
    finally:
        session.close()
        session.unlink()


def moving_controls(block: int) -> NDArray[np.void]:
    """Faders that are never at rest."""
    controls = neutral_controls()
    controls["strip_gain"][0, :4] = 0.5 + 0.4 * np.sin(0.01 * block + np.arange(4))
    return controls


def nanoseconds(function: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
    """(by the clock, on the processor)."""
    clock, cpu = time.perf_counter_ns(), time.thread_time_ns()
    function(*arguments)
    return time.perf_counter_ns() - clock, time.thread_time_ns() - cpu


def time_blocks(stems: int, frames: int, blocks: int) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Microseconds of blocks, arithmetic as long, idle callbacks and worker steps; late hops.

    Names that end in `_cpu` are the time that the thread had the processor: what other programs take is left
    out there. More than SETTLING_BLOCKS blocks. Threads: one.
    """
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
            if block == SETTLING_BLOCKS:
                rounds = rounds_taking(float(np.median(took["block"], axis=0)[0]) / 1e3)
            if block >= SETTLING_BLOCKS:
                took["arithmetic"].append(nanoseconds(arithmetic.ctypes, None, None, rounds, None, 0, None))
            if (block + 1) * frames // HOP != block * frames // HOP:
                took["hop"].append(nanoseconds(worker.step))
        late = session.health.count(LATE_HOPS)
    microseconds = {name: np.array(values) / 1e3 for name, values in took.items()}
    clock = {name: values[:, 0] for name, values in microseconds.items()}
    return clock | {f"{name}_cpu": values[:, 1] for name, values in microseconds.items()}, late
