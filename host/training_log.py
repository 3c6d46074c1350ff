"""What a training leaves to look at: a table, a picture, and events for TensorBoard where it is installed."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from host.outputs import OutputError, write_picture, write_text

if TYPE_CHECKING:
    from model.training.train import Progress

COLUMNS = ("step", "loss", "learning_rate", "validation")


class TrainingLog:
    """Writes OUT/history.csv, OUT/curve.png (at validations and at the end) and OUT/logs, from the first
    report on. A resumed training continues them: what lies beyond its first step is dropped.

    `note` is told once where TensorBoard's events are left out. Threads: one.
    """

    def __init__(self, out_dir: Path, note: Callable[[str], None]) -> None:
        self._out_dir, self._note = out_dir, note
        self._table: TextIO | None = None
        self._events: Any = None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._table is None:
            return
        self._table.close()
        with contextlib.suppress(OutputError) if error else contextlib.nullcontext():
            self._draw()  # a full disk is told of by what met it first
        if self._events is not None:
            self._events.close()

    def take(self, progress: Progress) -> None:
        """Log one report of the trainer."""
        if self._table is None:
            self._table = self._opened(progress.step)
        row = {name: getattr(progress, name) for name in COLUMNS}
        csv.writer(self._table).writerow("" if value is None else f"{value:.6g}" for value in row.values())
        for name in COLUMNS[1:] if self._events is not None else ():
            if row[name] is not None:
                self._events.add_scalar(name, row[name], progress.step)
        if progress.validation is not None:
            self._draw()

    def _opened(self, first_step: int) -> TextIO:
        """The table as it was before `first_step`, open at its end; events likewise."""
        path = self._out_dir / "history.csv"
        earlier = [row for row in _rows(path) if float(row["step"]) < first_step]
        self._out_dir.mkdir(parents=True, exist_ok=True)
        write_text(path, _table_of(earlier))
        self._events = self._event_writer(first_step)
        return path.open("a", newline="", buffering=1, encoding="utf-8")

    def _event_writer(self, first_step: int) -> Any:
        if importlib.util.find_spec("tensorboardX") is None:
            self._note("no logs for TensorBoard: install stembridge[train] to have them")
            return None
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self._out_dir / "logs"), purge_step=first_step)

    def _draw(self) -> None:
        if rows := _rows(self._out_dir / "history.csv"):
            draw_curve(rows, self._out_dir / "curve.png")


def _table_of(rows: list[dict[str, str]]) -> str:
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    """What a machine that went down wrote last may be half a line, or none of it."""
    try:
        return float(row["step"]) > 0 and not math.isnan(float(row["loss"])) and row["validation"] is not None
    except (TypeError, ValueError):
        return False


def draw_curve(rows: list[dict[str, str]], path: Path) -> None:
    """Loss and validation against the step, as a PNG. Threads: any."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, style in (("loss", "-"), ("validation", "o-")):
        points = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        if points:
            axes.plot(*zip(*points, strict=True), style, markersize=3, linewidth=1, label=name)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    write_picture(path, figure)
