"""The table and the picture of `benchmarks.latency_quality`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from host.colours import ACCENT
from model.training.score_tables import SETS, markdown_line

COLOURS = {
    "vocals": ACCENT,
    "accompaniment": "#22252b",
    "drums": "#4a90b8",
    "bass": "#5a9a4a",
    "other": "#9a6ab0",
}
STREAMING, WINDOWS = "o-", ("s:", "^:", "D:", "v:")
"""How what streams hop by hop is drawn, and what works on windows, one for each length."""


def as_markdown(found: dict[str, Any]) -> str:
    """Load, then SI-SDR by set and stem; one column for every latency, and for every window."""
    points = found["points"]
    lines = [["songs", "stem", "mixture", *(point["name"] for point in points)]]
    lines.append(["---", "---", *["--:"] * (len(points) + 1)])
    for kind in ("p50", "p99"):
        loads = [point["load"] for point in points]
        lines.append([f"load {kind}", "", "", *("-" if not x else f"{x[f'load_{kind}']:.2f}" for x in loads)])
    for row in found["means"]:
        systems = ["mixture", *(point["name"] for point in points)]
        cells = [f"{row[name]['si_sdr']:.1f}" if row[name] else "-" for name in systems]
        lines.append([row["song"], row["stem"], *cells])
    return "\n".join(map(markdown_line, lines)) + "\n" + differences(found)


def differences(found: dict[str, Any]) -> str:
    """By stem: what every latency gains over the whole song on the same songs, mean and standard error.

    Songs differ by far more than latencies do, which tells nothing of these. Empty where no network heard
    whole songs, and without stems that two songs were scored on.
    """
    points = found["points"]
    unbounded = [point["name"] for point in points if point["latency_ms"] is None]
    others = [point["name"] for point in points if point["latency_ms"] is not None]
    lines = [["less the whole song", "songs", *others], ["---", "--:", *["--:"] * len(others)]]
    for stem in COLOURS:
        rows = [row for row in found["rows"] if row["stem"] == stem]
        rows = [row for row in rows if all(row[name] for name in (*unbounded, *others))]
        if unbounded and len(rows) > 1:
            scores = np.array([[row[name]["si_sdr"] for name in (*unbounded, *others)] for row in rows])
            gains = scores[:, 1:] - scores[:, :1]
            means, errors = gains.mean(0), gains.std(0, ddof=1) / len(rows) ** 0.5
            cells = [f"{mean:+.2f} ± {error:.2f}" for mean, error in zip(means, errors, strict=True)]
            lines.append([stem, str(len(rows)), *cells])
    return "\n" + "\n".join(map(markdown_line, lines)) + "\n" if len(lines) > 2 else ""


def picture(found: dict[str, Any]) -> Figure:
    """SI-SDR of every set and, in the last panel, the load against algorithmic latency."""
    kinds = [kind for kind in SETS if any(row["set"] == kind for row in found["means"])]
    figure = Figure(figsize=(3.6 * (len(kinds) + 1), 3.8), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(kinds) + 1, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=False):
        draw_scores(axes, found, kind)
    draw_load(panels[-1], found)
    panels[0].set_ylabel("SI-SDR in dB, mean of the songs")
    handles, labels = panels[0].get_legend_handles_labels()
    for length, style in styles_of(found["points"]).items():
        if length is not None:
            handles.append(Line2D([], [], marker=style[0], linestyle=style[1:], color="#999999"))
            labels.append(f"windows of {length:g} s")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def styles_of(points: Sequence[dict[str, Any]]) -> dict[float | None, str]:
    """How each length of window is drawn, in seconds from the shortest on; None is what streams."""
    lengths = sorted({point["window_s"] for point in points} - {None})
    return {None: STREAMING} | dict(zip(lengths, WINDOWS, strict=False))


def lines_of(points: Sequence[dict[str, Any]]) -> list[tuple[str, list[int]]]:
    """How points are drawn, and which a line joins, by number: what streams, then windows of each length."""
    return [
        (style, [n for n, point in enumerate(points) if point["window_s"] == length])
        for length, style in styles_of(points).items()
    ]


def draw_scores(axes: Axes, found: dict[str, Any], kind: str) -> None:
    points, places = found["points"], places_of(found["points"])
    for row in (row for row in found["means"] if row["set"] == kind):
        for style, numbers in lines_of(points):
            scores = [(places[n], row[points[n]["name"]]) for n in numbers]
            known = [(at, score["si_sdr"]) for at, score in scores if score]
            draw_line(axes, known, row["stem"], COLOURS[row["stem"]], style)
    axes.set_title(SETS[kind], fontsize=9)
    label_latencies(axes, points)


def draw_load(axes: Axes, found: dict[str, Any]) -> None:
    points, places = found["points"], places_of(found["points"])
    for kind, colour in (("p50", COLOURS["vocals"]), ("p99", COLOURS["drums"])):
        for style, numbers in lines_of(points):
            live = [(places[n], points[n]["load"][f"load_{kind}"]) for n in numbers if points[n]["load"]]
            draw_line(axes, live, kind, colour, style)
    axes.axhline(1.0, color="#999999", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_title("load per hop, one core (below 1 keeps up)", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    label_latencies(axes, points)


def draw_line(axes: Axes, points: Sequence[tuple[float, float]], name: str, colour: str, style: str) -> None:
    """Lines of one name have one place in the legend."""
    known = name in axes.get_legend_handles_labels()[1]
    axes.plot(*zip(*points, strict=True), style, color=colour, label="_" if known else name, markersize=4)


def places_of(points: Sequence[dict[str, Any]]) -> list[float]:
    """Where points lie on the axis: latency in ms, and the whole song at twice the longest."""
    longest = max((point["latency_ms"] for point in points if point["latency_ms"]), default=100.0)
    return [point["latency_ms"] or 2 * longest for point in points]


def label_latencies(axes: Axes, points: Sequence[dict[str, Any]]) -> None:
    axes.set_xscale("log")
    ticks = {at: point["latency_ms"] for at, point in zip(places_of(points), points, strict=True)}
    axes.set_xticks(list(ticks), [f"{ms:.0f}" if ms else "whole" for ms in ticks.values()])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("algorithmic latency in ms")
    axes.grid(alpha=0.3)
