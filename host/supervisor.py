"""Children of the audio process: started, watched, replaced, and sent away in order.

A child lives as long as its stdin is open, says what happens as JSON
lines on stdout, and beats its heart in shared memory. One that exits, hangs or never gets ready is replaced;
the audio plays on meanwhile.
"""

from __future__ import annotations

import collections
import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from host.child import Message, read_messages
from host.launch import launch

POLL_S = 0.05
HUNG_S = 2.0  # no heart-beat for this long and LONGEST_HOPS more, while running
LONGEST_HOPS = 2
START_S = 300.0  # not ready after this long: where layers are compiled for a GPU, that takes minutes
LEAVE_S = 2.0  # how long a child may take to go by itself
KILLED_S = 1.0  # and how long after it was killed
LAST_WORDS_S = 0.5
FAILURES_IN_A_ROW = 5
BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0)
STEADY_S = 10.0  # a child that ran for so long is started anew at once when it ends


class Lifecycle(Enum):
    """The life of a child. FAILED: it never got ready, several times running, and is left alone."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class ChildSpec:
    """How to start a child, and how to see that it lives.

    `first_message` is sent to every incarnation; `beat_age_s` gives the age of its last heart-beat in
    seconds; the heart beats between hops of `hop_s`.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    first_message: Message
    beat_age_s: Callable[[], float]
    hop_s: float = 0.0

    @property
    def hung_s(self) -> float:
        """No heart-beat for this long while running means that it hangs."""
        return HUNG_S + LONGEST_HOPS * self.hop_s


class Child:
    """One supervised process through all its incarnations.

    Parameters
    ----------
    spec : what to start
    on_state : told (name, state, detail) at every change, from the supervisor's thread
    on_message : told (name, message) for every other line the child prints, from a reader thread

    Attributes
    ----------
    state : where it is in its life
    failures : how many incarnations in a row ended before they were ready, or as many and one that was
    reason : why the last one that ended did, in one line

    Threads: `start`, `poll` and `stop` from one thread; `send` and `wait_ready` from any.
    """

    def __init__(
        self,
        spec: ChildSpec,
        on_state: Callable[[str, Lifecycle, str], None],
        on_message: Callable[[str, Message], None],
    ) -> None:
        self.spec, self.state = spec, Lifecycle.NEW
        self._on_state, self._on_message = on_state, on_message
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._said_reason = ""
        self._stderr: collections.deque[str] = collections.deque(maxlen=20)
        self._readers: list[threading.Thread] = []
        self.failures, self.reason = 0, ""
        self._short_lives = 0  # incarnations in a row that did not run for STEADY_S
        self._changed_at = 0.0

    @property
    def pid(self) -> int:
        """The process's id; 0 where there is none."""
        return self._process.pid if self._process else 0

    @property
    def backoff_s(self) -> float:
        """How long a child that ended waits for its next start: longer with every short life in a row."""
        return BACKOFF_S[min(max(self._short_lives - 1, 0), len(BACKOFF_S) - 1)]

    def start(self) -> None:
        """Start the process."""
        self._spawn()
        self._enter(Lifecycle.STARTING)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the child said that it is ready; False if it did not in time or failed."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.state is not Lifecycle.FAILED:
            if self._ready.wait(POLL_S):
                return True
        return self._ready.is_set()

    def send(self, message: Message) -> None:
        """Send one JSON line; a child that is gone misses it."""
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):
            return

    def poll(self) -> None:
        """Look after the child; called every `POLL_S`."""
        if self.state is Lifecycle.RESTARTING and self._since_change() >= self.backoff_s:
            self.start()
        elif self.state is Lifecycle.STARTING:
            self._poll_starting()
        elif self.state is Lifecycle.RUNNING:
            self._poll_running()

    def _poll_starting(self) -> None:
        if self._ready.is_set():
            self.failures = 0
            self._enter(Lifecycle.RUNNING)
        elif not self._is_alive():
            self._ended("ended while starting", self._last_words())
        elif self._since_change() > START_S:
            self._ended(f"was not ready after {START_S:.0f} s")

    def _poll_running(self) -> None:
        if not self._is_alive():
            assert self._process is not None
            self._ended(f"ended with code {self._process.returncode}", self._last_words())
        elif self._since_change() > self.spec.hung_s and self.spec.beat_age_s() > self.spec.hung_s:
            self._ended(f"hung: no heart-beat for {self.spec.hung_s:.0f} s", self._said_reason)

    def _last_words(self) -> str:
        """What the process said before it ended; its readers may be behind."""
        for reader in self._readers:
            reader.join(LAST_WORDS_S)
        return self._said_reason or (self._stderr[-1] if self._stderr else "it gave no reason")

    def _ended(self, why: str, reason: str = "") -> None:
        steady = self.state is Lifecycle.RUNNING and self._since_change() >= STEADY_S
        self._short_lives = 0 if steady else self._short_lives + 1
        self._kill()
        self.reason = reason or why
        self.failures += 1
        gone = self.failures >= FAILURES_IN_A_ROW
        detail = f"{why}: {reason}" if reason else why
        self._enter(Lifecycle.FAILED if gone else Lifecycle.RESTARTING, detail)

    def stop(self) -> None:
        """Ask the child to leave, and make it."""
        if self.state in (Lifecycle.NEW, Lifecycle.STOPPED):
            return
        self._enter(Lifecycle.STOPPING)
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.close()
                self._process.wait(LEAVE_S)
            except (OSError, subprocess.TimeoutExpired):
                pass
        self._kill()
        self._enter(Lifecycle.STOPPED)

    def _spawn(self) -> None:
        self._ready = threading.Event()
        self._said_reason = ""
        self._stderr.clear()
        self._process = launch(self.spec.module, *self.spec.arguments)
        self.send(self.spec.first_message)
        assert self._process.stdout is not None and self._process.stderr is not None
        ready = self._ready
        drain = threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True)
        drain.start()
        listener = read_messages(
            lambda message: self._message(message, ready), lambda: None, self._process.stdout
        )
        self._readers = [drain, listener]

    def _drain(self, stderr: Any) -> None:
        for line in stderr:
            if line.strip():
                self._stderr.append(line.strip())

    def _message(self, message: Message, ready: threading.Event) -> None:
        if message.get("event") == "error":
            self._said_reason = str(message.get("reason", ""))
        self._on_message(self.spec.name, message)
        if message.get("event") == "ready":
            ready.set()

    def _kill(self) -> None:
        """One that a driver holds on to ends when it may; nobody waits for it."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILLED_S)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _since_change(self) -> float:
        return time.monotonic() - self._changed_at

    def _enter(self, state: Lifecycle, detail: str = "") -> None:
        self.state, self._changed_at = state, time.monotonic()
        self._on_state(self.spec.name, state, detail)


class Supervisor:
    """Polls the children until it is stopped, then sends them away, last started first.

    Threads: `start` and `stop` from one thread.
    """

    def __init__(self, children: Sequence[Child], also: Callable[[], None] = lambda: None) -> None:
        self.children = list(children)
        self._also = also
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start all children and watch them."""
        for child in self.children:
            child.start()
        self._thread.start()

    def _run(self) -> None:
        while not self._leave.wait(POLL_S):
            for child in self.children:
                child.poll()
            self._also()

    def stop(self) -> None:
        """Stop watching, then stop the children."""
        self._leave.set()
        if self._thread.is_alive():
            self._thread.join()
        for child in reversed(self.children):
            child.stop()
