"""A child process of the engine's as its parent sees it: JSON lines in, JSON lines out."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

from host.launch import launch
from streaming.session import Session


class JsonChild:
    """One that was told of a session, with its first event read; killed at the end if it still runs."""

    def __init__(self, module: str, settings: dict[str, Any], session: Session) -> None:
        self.process = launch(module, json.dumps(settings))
        self.tell({"session": session.name})
        self.first = self.next_event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def next_event(self) -> Any:
        return json.loads(self.process.stdout.readline())

    def tell(self, line: str | dict[str, Any]) -> None:
        self.process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        self.process.stdin.flush()

    def leave(self) -> tuple[int, str]:
        """Close its stdin; the exit code and what was left of its output."""
        rest, _ = self.process.communicate(timeout=20)
        return self.process.returncode, rest
