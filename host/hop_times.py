"""How long a separator takes for a hop on this machine: what profiles and allowances follow from."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming.separator import Audio, Separator, fade_frames

CHANNELS = 2
DIFFERENT_HOPS = 50
PILOT_RUNS, LEAST_RUNS = 5, 20
LOOK_EVERY_S = 0.1

R = TypeVar("R")
Step = Callable[[int], object]
"""Told how many steps there were before."""


def timed(step: Step, runs: int, every_s: float = 0.0) -> NDArray[np.float64]:
    """Seconds of every run; with `every_s` each one waits for its turn as live audio does.

    Paced runs take longer: caches cool and clocks drop in between. Threads: that of the step.
    """
    seconds = np.full(runs, np.nan)  # in memory now, so that it is not taken for growth
    origin = time.perf_counter()
    for run in range(runs):
        if every_s:
            time.sleep(max(0.0, origin + run * every_s - time.perf_counter()))
        seconds[run] = _seconds_of(step, run)
    return seconds


def timed_in_turns(step: Step, other: Step, runs: int) -> NDArray[np.float64]:
    """Seconds of every run of both [2, runs]: what slows the machine for a while slows both.

    Threads: that of the steps.
    """
    return np.array([[_seconds_of(each, run) for each in (step, other)] for run in range(runs)]).T


def _seconds_of(step: Step, run: int) -> float:
    start = time.perf_counter()
    step(run)
    return time.perf_counter() - start


def runs_in(step: Step, seconds: float) -> int:
    """How many runs back to back take so long, and not too few for percentiles."""
    return max(LEAST_RUNS, round(seconds / float(np.median(timed(step, PILOT_RUNS)))))


def hop_step(separator: Separator, level: float = 0.1) -> Step:
    """A run is one hop of noise of this level; several streams hear the same."""
    hop_frames, window_frames = separator.hop_frames, separator.window_frames
    noise = np.float32(level) * _noise(window_frames + (DIFFERENT_HOPS - 1) * hop_frames)
    starts = range(0, DIFFERENT_HOPS * hop_frames, hop_frames)
    windows = [for_streams(separator, noise[:, start : start + window_frames]) for start in starts]
    stems = room_for_stems(separator)

    def step(run: int) -> None:
        separator.separate(windows[run % DIFFERENT_HOPS], stems)

    return step


def for_streams(separator: Separator, window: Audio) -> Audio:
    """A window [channels, window_frames], the same for every stream of a separator that has several."""
    return np.broadcast_to(window, (*_streams(separator), *window.shape))


def room_for_stems(separator: Separator) -> Audio:
    """What `separate` writes to."""
    frames = separator.hop_frames + fade_frames(separator)
    return np.empty((*_streams(separator), len(separator.stem_names), CHANNELS, frames), np.float32)


def _streams(separator: Separator) -> tuple[int, ...]:
    """The axis in front, which a lone stream has not."""
    streams = getattr(separator, "streams", 1)
    return (streams,) if streams > 1 else ()


def _noise(frames: int) -> Audio:
    return np.random.default_rng(0).standard_normal((CHANNELS, frames), dtype=np.float32)


def time_hops(separator: Separator, hops: int, paced: bool, level: float = 0.1) -> NDArray[np.float64]:
    """Seconds of every hop of noise of this level, as `timed`. Threads: that of `warm_up`."""
    hop_s = separator.hop_frames / separator.sample_rate_hz
    return timed(hop_step(separator, level), hops, hop_s if paced else 0.0)


def summary(seconds: NDArray[np.float64], hop_s: float) -> dict[str, float]:
    """p50, p99, p99.9 and maximum in ms and as load, which is compute time over hop duration; and as `tail`
    p99.9 over p50."""
    ms = {f"p{q:g}": float(np.percentile(seconds, q) * 1e3) for q in (50, 99, 99.9)}
    ms["max"] = float(seconds.max() * 1e3)
    figures = {f"{name}_ms": value for name, value in ms.items()} | {"tail": ms["p99.9"] / ms["p50"]}
    return figures | {f"load_{name}": value / (hop_s * 1e3) for name, value in ms.items()}


@contextlib.contextmanager
def waits(stream: type) -> Iterator[list[float]]:
    """Seconds of every `synchronize` of a stream of this class meanwhile.

    What remains of a hop is the program's own work. Threads: one at a time.
    """
    found: list[float] = []
    wait = stream.synchronize  # type: ignore[attr-defined]

    def timed_wait(self: object) -> None:
        start = time.perf_counter()
        wait(self)
        found.append(time.perf_counter() - start)

    stream.synchronize = timed_wait  # type: ignore[attr-defined]
    try:
        yield found
    finally:
        stream.synchronize = wait  # type: ignore[attr-defined]


def in_time(limit_s: float, work: Callable[..., R], *arguments: object) -> R:
    """What `work` returns, from a process of its own that is ended after `limit_s`: compilers can hang.

    Everything must be picklable. Errors: `work`'s own, and RuntimeError where time is up or the process ends.
    """
    spawn = multiprocessing.get_context("spawn")
    answers, answering = spawn.Pipe(duplex=False)
    with TemporaryDirectory(ignore_cleanup_errors=True) as cache, answers:
        child = spawn.Process(target=_answer, args=(answering, cache, work, arguments), daemon=True)
        child.start()
        answering.close()
        try:
            result, error = _answer_of(child, answers, limit_s)
        finally:
            child.kill()
            child.join()
    if error is not None:
        raise error
    done: R = result
    return done


def _answer_of(
    child: SpawnProcess, answers: connection.Connection, limit_s: float
) -> tuple[Any, Exception | None]:
    ends, lives = time.monotonic() + limit_s, True
    while lives and not answers.poll(LOOK_EVERY_S):  # what the child has started may hold the other end, too
        if time.monotonic() > ends:
            raise RuntimeError(f"not done after {limit_s:.0f} s")
        lives = child.is_alive()
    with contextlib.suppress(EOFError):
        if answers.poll():
            told: tuple[Any, Exception | None] = answers.recv()
            return told
    child.join()
    raise RuntimeError(f"its process ended with code {child.exitcode}")


def _answer(
    answering: connection.Connection, cache: str, work: Callable[..., R], arguments: Sequence[object]
) -> None:
    """Send what `work` returns or raises."""
    # A compiler that is ended leaves half a file behind, which nothing else may find.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    try:
        answering.send((work(*arguments), None))
    except Exception as error:
        answering.send((None, _sendable(error)))


def _sendable(error: Exception) -> Exception:
    """The error, or what it says where it cannot be sent as it is."""
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def resident_mb() -> float:
    """Memory of this process that is in use; 0 where the system does not tell as Linux does."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return int(status.read_text().partition("VmRSS:")[2].split()[0]) * 1024 / 1e6
