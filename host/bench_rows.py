"""What `stembridge bench` finds: rows of figures, and the table and the picture made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from matplotlib.figure import Figure
from rich.table import Table

from host.colours import ACCENT, NEUTRAL

Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One thing measured, or why it was not. The first of a group is ours; the others are beside it.

    `figures` of `host.hop_times.summary` and others by name; their units are in their names.
    """

    group: str
    name: str
    figures: Figures = field(default_factory=dict)
    trouble: str = ""


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by group, groups as they first came, with `times_ours`: their time per second of audio over that
    of their group's first, where they were not measured in turns with it."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    told = []
    for first, *others in groups.values():
        told.append(first)
        told += [_beside(first.figures.get("load_p50"), row) for row in others]
    return told


def _beside(ours: float | None, row: Row) -> Row:
    load = row.figures.get("load_p50")
    if not ours or load is None:
        return row
    return replace(row, figures={"times_ours": load / ours} | row.figures)


COLUMNS = {
    "p50_ms": ("p50 ms", "{:.3g}"),
    "p99_ms": ("p99 ms", "{:.3g}"),
    "p99.9_ms": ("p99.9 ms", "{:.3g}"),
    "max_ms": ("max ms", "{:.3g}"),
    "load_p99": ("p99 load", "{:.2g}"),
    "times_roofline": ("x roofline", "{:.2g}"),
    "times_ours": ("x ours", "{:.2g}"),
}
NOTES = {
    "mask_error_rms": "mask error {:.1e} rms",
    "mask_error_relative": "{:.1e} of the mask",
    "output_db": "output {:.0f} dB",
    "live_db": "live hop {:.0f} dB",
    "bf16_mask_error_relative": "BF16 {:.1e} of the mask",
    "bf16_output_db": "{:.0f} dB",
    "graph_breaks": "{:.0f} graph breaks",
    "host_ms": "host {:.2f} ms",
    "tail": "p99.9 is {:.2f} x p50",
    "growth_mb": "grew {:.1f} MB",
    "gpu_growth_mb": "on the GPU {:.1f} MB",
    "gflop": "{:.3g} GFLOP",
    "tflop_per_s": "product {:.2f} TFLOP/s",
    "gb_per_s": "copy {:.0f} GB/s",
}


def as_table(rows: Sequence[Row]) -> Table:
    """For a terminal; a row without figures says why."""
    table = Table(
        "", *(title for title, _ in COLUMNS.values()), "", box=None, padding=(0, 1), header_style="bold"
    )
    for group, members in groupby(rows, key=lambda row: row.group):
        table.add_row(f"[bold]{group}[/]")
        for row in members:
            table.add_row(f"  {row.name}", *_cells(row), _notes(row))
    return table


def _cells(row: Row) -> list[str]:
    figures = row.figures
    return [form.format(figures[key]) if key in figures else "" for key, (_, form) in COLUMNS.items()]


def _notes(row: Row) -> str:
    figures = row.figures
    told = [form.format(figures[key]) for key, form in NOTES.items() if key in figures]
    return "; ".join([*told, *([row.trouble] if row.trouble else [])])


def picture(rows: Sequence[Row]) -> Figure:
    """Compute time of a hop, median to maximum, of every row that was measured; ours in colour."""
    shown = [row for row in rows if "p50_ms" in row.figures][::-1]
    figure = Figure(figsize=(9, 1.2 + 0.32 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    first = {row.group: row.name for row in reversed(list(rows))}
    for place, row in enumerate(shown):
        colour = ACCENT if first[row.group] == row.name else NEUTRAL
        figures = row.figures
        axes.plot([figures["p50_ms"], figures["max_ms"]], [place] * 2, color=colour, linewidth=1)
        axes.plot([figures["p50_ms"], figures["p99_ms"]], [place] * 2, "o-", color=colour, linewidth=4)
        if "roofline_ms" in figures:
            axes.plot(figures["roofline_ms"], place, "|", color=NEUTRAL, markersize=12)
    axes.set_yticks(range(len(shown)), [f"{row.group}: {row.name}" for row in shown], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("ms per hop or block: p50 to p99, thin to the maximum; | roofline")
    axes.grid(axis="x", alpha=0.3)
    return figure
