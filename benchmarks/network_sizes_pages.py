"""The table and the picture of `benchmarks.network_sizes`."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from host.colours import ACCENT
from model.training.score_tables import markdown_line


def as_markdown(found: dict[str, Any]) -> str:
    """Weights, time of a hop over that of the first shape, and validation loss at every step it was taken."""
    shapes = found["shapes"]
    steps = sorted({int(step) for facts in shapes for step in facts["losses"]})
    lines = [["shape", "weights", "time of a hop", *(f"loss at {step}" for step in steps)]]
    lines.append(["---", *["--:"] * (len(steps) + 2)])
    for facts in shapes:
        time = relative(facts, shapes[0])
        cells = [f"{facts['parameters']:,}", "-" if time is None else f"{time:.2f}"]
        losses = (facts["losses"].get(str(step)) for step in steps)
        lines.append([facts["name"], *cells, *("-" if x is None else f"{x:.2f}" for x in losses)])
    return "\n".join(map(markdown_line, lines)) + "\n"


def relative(facts: dict[str, Any], first: dict[str, Any]) -> float | None:
    """Time of a hop over that of the first shape, where both were taken."""
    return facts["hop_ms"] / first["hop_ms"] if facts["hop_ms"] and first["hop_ms"] else None


def picture(found: dict[str, Any]) -> Figure:
    """Validation loss against the step; the last one against the time of a hop."""
    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    along, against = figure.subplots(1, 2, sharey=True)
    shapes = found["shapes"]
    for facts in shapes:
        colour = ACCENT if facts["name"] == shapes[0]["name"] else None
        steps = sorted(facts["losses"], key=int)
        losses = [facts["losses"][step] for step in steps]
        (line,) = along.plot(
            [int(step) for step in steps], losses, "o-", color=colour, markersize=3, linewidth=1
        )
        time = relative(facts, shapes[0])
        if time is not None and losses:
            against.plot([time], losses[-1:], "o", color=line.get_color())
            against.annotate(
                facts["name"], (time, losses[-1]), (5, 3), textcoords="offset points", fontsize=8
            )
    along.set(xlabel="step", ylabel="validation loss in dB (lower is better)")
    along.legend([facts["name"] for facts in shapes], frameon=False, fontsize=8)
    against.set_xlabel("time of a hop, as it ships = 1")
    for axes in (along, against):
        axes.grid(alpha=0.3)
    return figure
