"""What long commands show on stderr while they work: bars, and meters beside them.

Nothing is drawn where stderr is no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from host.terminal import meter_bar

Advance = Callable[[float], None]
"""Told the part that is done, 0..1."""


def stderr_console() -> Console:
    """Where progress goes, so that stdout holds results only."""
    return Console(stderr=True, highlight=False)


def _columns() -> Progress:
    text = TextColumn("{task.description}", markup=False)
    return Progress(text, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=stderr_console())


@contextmanager
def file_bars() -> Iterator[Callable[[str], Advance]]:
    """A function that opens a bar under a title; bars stay when they are full.

    Threads: main.
    """
    bars = _columns()
    bars.disable = not bars.console.is_terminal

    def open_bar(title: str) -> Advance:
        task = bars.add_task(title, total=1.0)
        return lambda done: bars.update(task, completed=done)

    with bars:
        yield open_bar


class LibraryBars:
    """A bar over all files with the time that is left, and one below for each file in work.

    Threads: main.
    """

    def __init__(self, bars: Progress, files: int) -> None:
        self._bars = bars
        self._parts: dict[Path, float] = {}
        self._tasks: dict[Path, TaskID] = {}
        self._all = bars.add_task(f"{files} files", total=files)

    def advance(self, path: Path, done: float) -> None:
        """`done` 0..1 of a file; the first call opens its bar."""
        if path not in self._tasks:
            self._tasks[path] = self._bars.add_task(path.name, total=1.0)
        self._bars.update(self._tasks[path], completed=done)
        self._count(path, done)

    def end(self, path: Path, done: float = 1.0) -> None:
        """A file is through; with `done` 0 it is yet to be done."""
        if path in self._tasks:
            self._bars.remove_task(self._tasks.pop(path))
        self._count(path, done)

    def _count(self, path: Path, done: float) -> None:
        self._parts[path] = done
        self._bars.update(self._all, completed=sum(self._parts.values()))


@contextmanager
def library_bars(files: int) -> Iterator[LibraryBars]:
    """Bars for a library of so many files."""
    bars = _columns()
    bars.disable = not bars.console.is_terminal
    with bars:
        yield LibraryBars(bars, files)


def meter_table(names: tuple[str, ...], peaks: NDArray[np.float32]) -> Table:
    """One meter per stem; `peaks` are amplitudes in the order of `names`."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    for name, peak in zip(names, peaks, strict=False):
        table.add_row(name, meter_bar(float(peak)))
    return table


@contextmanager
def bar_with_meters(title: str, names: tuple[str, ...], peaks: NDArray[np.float32]) -> Iterator[Advance]:
    """A bar above one meter per stem; `peaks` is read at every update.

    Threads: main.
    """
    bars = _columns()
    if not bars.console.is_terminal:
        yield lambda done: None
        return
    task = bars.add_task(title, total=1.0)
    with Live(console=bars.console, auto_refresh=False, transient=True) as live:

        def update(done: float) -> None:
            bars.update(task, completed=done)
            live.update(Group(bars, meter_table(names, peaks)), refresh=True)

        yield update
