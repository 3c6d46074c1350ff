"""The same files shared out on Ray: a model per worker, files handed out one by one, none lost or doubled."""

from __future__ import annotations

import importlib
import io
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from host.errors import UserError, is_expected, one_line
from host.library import Job, Outcome, finished
from host.progress import LibraryBars
from host.stem_files import Order, separate_file

LOCAL = "local"
MOST_ATTEMPTS = 3
"""How often a file is begun before it counts as failed."""

MOST_DEATHS = 9
"""Workers that may die one after the other before anything else happens."""

LEAST_STEP = 0.01
"""Part of a file between two reports."""

OPENING = Path("opening models")
"""Stands among the files in work until the first model is there."""

KNOCK_S = 5.0
STORE_BYTES = 80 << 20  # Ray's least; audio goes through files


class ClusterError(UserError):
    """A cluster that cannot be used."""


class Replica:
    """A model on a worker. Ray makes it an actor and runs one call at a time."""

    def __init__(self, order: Order, settings: dict[str, Any]) -> None:
        self._order, self._settings = order, settings

    def open(self) -> str:
        """Load the model; where it is."""
        self._renderer = self._order.open()
        return f"process {os.getpid()} on {socket.gethostname()}"

    def separate(self, job: Job) -> Generator[float | dict[str, Any]]:
        """Parts that are done, then the record.

        A file that another replica finished before it died is not done again.
        """
        record = finished(job, self._settings)
        if record is None:
            record = yield from _sparingly(
                separate_file(job, self._renderer, self._order.form, self._settings)
            )
        yield record


def _sparingly(work: Generator[float, None, dict[str, Any]]) -> Generator[float, None, dict[str, Any]]:
    told = 0.0
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            record: dict[str, Any] = end.value
            return record
        if done - told >= LEAST_STEP:
            told = done
            yield done


def run_on_cluster(
    jobs: Sequence[Job],
    order: Order,
    settings: dict[str, Any],
    bars: LibraryBars,
    address: str = LOCAL,
    workers: int | None = None,
) -> Iterator[Outcome]:
    """Separate every job on one of the replicas; an outcome for each, as they come.

    A file that fails or whose worker dies is begun again, on another replica where there is one.
    Nothing reaches stdout meanwhile: Ray would print a paragraph there for every worker that dies.
    Errors: ClusterError, and what `Order.open` raises.

    Threads: main.
    """
    most = min(workers or len(jobs), len(jobs))
    bars.advance(OPENING, 0.0)
    with redirect_stdout(io.StringIO()):
        ray = _connect(address, order.quality.threads, most)
        try:
            order, replicas = _placed(ray, order, most)
            yield from _Run(ray, order, settings, bars).all(jobs, replicas)
        finally:
            ray.shutdown()


def _connect(address: str, threads: int, most: int) -> Any:
    """Ray, quiet; a cluster of this machine's own listens on the loopback only. Errors: ClusterError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it calls home otherwise
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise
    if address == LOCAL:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's way to say 127.0.0.1
    else:
        _knock(address)
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise ClusterError("Ray is not installed: pip install 'stembridge[cluster]'.") from None
    where: dict[str, Any] = {"address": address}
    if address == LOCAL:
        cores = min(most * threads, max(os.cpu_count() or 1, threads))
        where |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        logging.getLogger("ray").setLevel(logging.ERROR)
        ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (ValueError, RuntimeError, OSError) as error:
        raise _nobody_at(address, one_line(error)) from None
    return ray


def _knock(address: str) -> None:
    """See whether anybody answers: Ray itself takes minutes to tell. Errors: ClusterError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(
            f"'{address}' is no address of a cluster: write HOST:PORT, or nothing for this machine."
        )
    try:
        socket.create_connection((host, int(port)), KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise _nobody_at(address, one_line(error)) from None


def _nobody_at(address: str, reason: str) -> ClusterError:
    return ClusterError(f"No Ray cluster answers at {address} ({reason}): start one with `ray start --head`.")


def _placed(ray: Any, order: Order, most: int) -> tuple[Order, int]:
    """The order with its device settled, and how many replicas the cluster holds. Errors: ClusterError."""
    resources = ray.cluster_resources()
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    device = order.device if order.device != "auto" else ("cuda" if gpus else "cpu")
    room = gpus if device == "cuda" else cores // order.quality.threads
    if room < 1:
        wanted = "a GPU" if device == "cuda" else f"{order.quality.threads} cores"
        raise ClusterError(f"No worker of the cluster has {wanted}; choose another --device or --threads.")
    return replace(order, device=device), min(room, most)


@dataclass
class _Task:
    """A job and where it was begun."""

    job: Job
    tried: list[_Worker] = field(default_factory=list)

    def suits(self, worker: _Worker, workers: list[_Worker]) -> bool:
        return worker not in self.tried or all(other in self.tried for other in workers)


@dataclass(eq=False)
class _Worker:
    """A replica and what it is at: None while it opens or idles."""

    actor: Any
    place: str = ""
    task: _Task | None = None


class _Run:
    """Hands the tasks to the workers and takes what they report."""

    def __init__(self, ray: Any, order: Order, settings: dict[str, Any], bars: LibraryBars) -> None:
        self._ray, self._bars = ray, bars
        options = {"num_cpus": order.quality.threads, "num_gpus": 1 if order.device == "cuda" else 0}
        self._make: Callable[[], Any] = lambda: ray.remote(Replica).options(**options).remote(order, settings)
        self._waiting: deque[_Task] = deque()
        self._idle: list[_Worker] = []
        self._reports: dict[Any, _Worker] = {}
        self._deaths_in_a_row = 0

    def all(self, jobs: Sequence[Job], replicas: int) -> Iterator[Outcome]:
        self._waiting.extend(_Task(job) for job in jobs)
        for _ in range(replicas):
            self._hire()
        left = len(jobs)
        while left:
            self._hand_out()
            ready, _ = self._ray.wait(list(self._reports), num_returns=1)
            outcome = self._take(ready[0])
            if outcome:
                left -= 1
                self._bars.end(outcome.job.source)
                yield outcome

    def _hire(self) -> None:
        worker = _Worker(self._make())
        self._reports[worker.actor.open.remote()] = worker

    def _hand_out(self) -> None:
        """A task for every idle worker; one that it has failed at only where all others have, too."""
        for worker in list(self._idle):
            workers = [*self._idle, *self._reports.values()]
            task = next((t for t in self._waiting if t.suits(worker, workers)), None)
            if task is None:
                continue
            self._waiting.remove(task)
            self._idle.remove(worker)
            task.tried.append(worker)
            worker.task = task
            stream = worker.actor.separate.options(num_returns="streaming").remote(task.job)
            self._reports[stream] = worker

    def _take(self, report: Any) -> Outcome | None:
        """One report: a worker is ready, a part is done, or a file came to its end."""
        worker = self._reports[report]
        errors = self._ray.exceptions
        try:
            value = self._ray.get(next(report) if worker.task else report)
        except errors.RayTaskError as error:
            return self._failed(report, worker, error.cause)
        except errors.RayError:
            return self._died(report, worker)
        if isinstance(value, float) and worker.task:
            self._bars.advance(worker.task.job.source, value)
            return None
        del self._reports[report]
        self._idle.append(worker)
        self._deaths_in_a_row = 0
        task, worker.task = worker.task, None
        if task is None:
            worker.place = value
            self._bars.end(OPENING, 0.0)
            return None
        return Outcome(task.job, value)

    def _failed(self, report: Any, worker: _Worker, cause: Exception) -> Outcome | None:
        """A file, or a model, that a worker could not cope with."""
        del self._reports[report]
        reason = one_line(cause) if is_expected(cause) else f"{type(cause).__name__}: {one_line(cause)}"
        if worker.task is None:
            raise ClusterError(reason)
        self._idle.append(worker)
        return self._again(worker, reason)

    def _died(self, report: Any, worker: _Worker) -> Outcome | None:
        """A worker that is gone; another takes its place."""
        del self._reports[report]
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > MOST_DEATHS:
            raise ClusterError(
                "Workers die as soon as they start; see whether the machines run out of memory."
            )
        self._hire()
        return self._again(worker, f"its worker died ({worker.place})") if worker.task else None

    def _again(self, worker: _Worker, reason: str) -> Outcome | None:
        """Put a task back, or give it up."""
        task, worker.task = worker.task, None
        assert task is not None
        if len(task.tried) >= MOST_ATTEMPTS:
            return Outcome(task.job, error=f"{reason} (after {len(task.tried)} attempts)")
        self._bars.end(task.job.source, 0.0)
        self._waiting.append(task)
        return None
