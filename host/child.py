"""What every child process shares: JSON lines in on stdin and out on stdout, one way to start and to end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from host.errors import one_line
from streaming.session import Session

Message = dict[str, Any]

URGENT = -11  # the nice value that desktop audio servers give themselves


def emit(event: str, **fields: Any) -> None:
    """Write one event line; the parent reads it at once.

    Threads: any; a line is one write.
    """
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def parse_message(line: str) -> Message | None:
    """The JSON object of a line, or None where it holds none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def read_messages(
    on_message: Callable[[Message], None], on_end: Callable[[], None], source: Iterable[str]
) -> threading.Thread:
    """Start (and return) a thread that hands over every message of `source`, then its end.

    A thread, since not every system can wait for a pipe in an event loop.

    Threads: the callables run in the new thread.
    """

    def pump() -> None:
        for line in source:
            if (message := parse_message(line)) is not None:
                on_message(message)
        on_end()

    reader = threading.Thread(target=pump, name="messages", daemon=True)
    reader.start()
    return reader


def raise_priority() -> None:
    """Ask to be scheduled before ordinary work; where that is not permitted, stay as it is.

    Not real-time scheduling: a model that needs a whole core must not take it from the system. Where Linux
    weighs whole sessions first (autogroup) this ranks nothing but the child's own threads; to lift the whole
    session would put the model above an audio thread that is not real-time.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, URGENT)


def run_child(work: Callable[[Session, Message], None], arguments: list[str]) -> int:
    """Do `work` with the options that `arguments` hold as JSON, in the session that stdin's first line names.

    The exit code: 0 when the work came to its end or nobody wants it, 2 after an `error` event with a
    one-line reason.

    Threads: the process's main thread.
    """
    first = parse_message(sys.stdin.readline())
    if first is None:
        return 0
    try:
        with contextlib.closing(Session.attach(first["session"])) as session:
            work(session, json.loads(arguments[0]))
    except (OSError, ValueError, RuntimeError) as error:
        emit("error", reason=one_line(error))
        return 2
    return 0
