"""What long commands show on stderr while they work: bars, and meters beside them.

Nothing is drawn where stderr is no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
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
