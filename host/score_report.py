"""Scores of many songs as medians and means, as a table and as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from rich.table import Table

from host.colours import ACCENT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
"""`song`, `stem`, and for every system its scores by measure, or None."""

Scores = dict[str, float | None]

MEASURES = {"sdr": "SDR", "usdr": "uSDR", "si_sdr": "SI-SDR"}
BASELINES = {"mixture": "mixture", "band_pass": "band-pass", "oracle": "oracle mask"}
LEAST_DB = -30.0  # an almost silent stem scores far below; drawn, it would flatten all the others
COLOURS = {"model": ACCENT, "mixture": "#b0b4bb", "band_pass": "#7a8190", "oracle": "#4a90b8"}


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Scores]]]:
    """Median and mean over the songs by stem, system and measure; `all` is the mean over the stems."""
    systems = [system for system in COLOURS if rows and system in rows[0]]
    stems = list(dict.fromkeys(row["stem"] for row in rows))
    table = {
        stem: {
            system: {measure: _centre(_values(rows, stem, system, measure)) for measure in MEASURES}
            for system in systems
        }
        for stem in stems
    }
    table["all"] = {
        system: {
            measure: {
                kind: _mean([table[stem][system][measure][kind] for stem in stems])
                for kind in ("median", "mean")
            }
            for measure in MEASURES
        }
        for system in systems
    }
    return table


def _values(rows: Sequence[Row], stem: str, system: str, measure: str) -> list[float]:
    """The scores that there are."""
    scores = [row[system][measure] for row in rows if row["stem"] == stem and row[system]]
    return [score for score in scores if score is not None]


def _centre(values: list[float]) -> Scores:
    return {"median": round(median(values), 4) if values else None, "mean": _mean(values)}


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one is missing: a mean over other stems would not compare."""
    known = [value for value in values if value is not None]
    return round(fmean(known), 4) if known and len(known) == len(values) else None


def as_table(rows: Sequence[Row], summary: dict[str, Any]) -> Table:
    """Every song and stem, then medians and means; of the baselines only the SDR."""
    extra = [name for name in BASELINES if name in rows[0]]
    table = Table("song", "stem", box=None)
    for head in (*MEASURES.values(), *(BASELINES[name] for name in extra)):
        table.add_column(head, justify="right")
    for row in rows:
        model = row["model"] or {}
        others = [(row[name] or {}).get("sdr") for name in extra]
        table.add_row(row["song"], row["stem"], *map(_cell, [*(model.get(m) for m in MEASURES), *others]))
    for kind in ("median", "mean"):
        for stem, systems in summary.items():
            cells = [systems["model"][m][kind] for m in MEASURES]
            cells += [systems[name]["sdr"][kind] for name in extra]
            table.add_row(kind, stem, *map(_cell, cells), style="bold")
    return table


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def picture_of(rows: Sequence[Row]) -> bytes:
    """A PNG: the SDR of every song, by stem and system, with box plots."""
    from host.report import picture  # matplotlib takes a second

    stems = list(dict.fromkeys(row["stem"] for row in rows))
    systems = [system for system in COLOURS if system in rows[0]]
    figure, axes = picture(4.0)
    for number, system in enumerate(systems):
        offset = 0.8 * ((number + 0.5) / len(systems) - 0.5)
        columns = {place + offset: _values(rows, stem, system, "sdr") for place, stem in enumerate(stems)}
        _draw(axes, columns, 0.6 / len(systems), COLOURS[system])
        axes.plot([], [], "s", color=COLOURS[system], label=BASELINES.get(system, system))
    axes.set_xticks(range(len(stems)), stems)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], LEAST_DB))
    axes.set_ylabel(f"SDR in dB (median over 1-s windows), from {LEAST_DB:.0f}")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, ncols=len(systems), fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Axes, columns: dict[float, list[float]], width: float, colour: str) -> None:
    """Points and a box plot for every column that has values, at its place."""
    known = {x: values for x, values in columns.items() if values}
    if not known:
        return  # matplotlib draws no empty box plot
    for x, values in known.items():
        axes.plot([x] * len(values), values, "o", color=colour, markersize=3, alpha=0.6)
    line = {"color": colour}
    axes.boxplot(
        list(known.values()),
        positions=list(known),
        widths=width,
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": colour, "linewidth": 2},
    )
