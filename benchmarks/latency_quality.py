"""Quality and load against latency: python -m benchmarks.latency_quality --model DIAL --audio LIB.

One checkpoint that was trained with several look-aheads is scored on held-out songs at each of them, beside
the `stage` profile where its weights are installed. Written into `--out`: latency_quality.png, .md and .json.
SI-SDR is the mean over the songs of a set; load is compute time over hop duration, paced, on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from host.hop_times import summary, time_hops
from host.machine import processor
from model.catalogue import builtin_models
from model.causal import CausalBSRoformer
from model.checkpoint import load_model
from model.separators import CausalSeparator
from model.training.evaluate import HeldOutSong, evaluate, held_out_songs
from model.training.score_tables import SETS, means

COLOURS = {
    "vocals": "#e0642d",
    "accompaniment": "#22252b",
    "drums": "#4a90b8",
    "bass": "#5a9a4a",
    "other": "#9a6ab0",
}
WHOLE_SONG = "whole song"


@dataclass(frozen=True)
class Point:
    """One network at one latency; a network that sees the whole song has none."""

    name: str
    network: CausalBSRoformer

    @property
    def latency_ms(self) -> float | None:
        config = self.network.config
        return 1000 * config.latency_frames / config.sample_rate_hz if config.streams else None


def points_of(network: CausalBSRoformer) -> list[Point]:
    """The network at each look-ahead that it was trained for, from the shortest latency to the whole song."""
    config = network.config
    found = []
    for frames in config.look_aheads or (config.look_ahead_frames,):
        at = CausalBSRoformer(config.with_look_ahead(frames))
        at.load_state_dict(network.state_dict())
        latency_ms = Point("", at).latency_ms
        found.append(Point(WHOLE_SONG if latency_ms is None else f"{latency_ms:.0f} ms", at.eval()))
    return by_latency(found)


def by_latency(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: float("inf") if point.latency_ms is None else point.latency_ms)


def stage_point() -> list[Point]:
    """The shortest latency has a hop of its own, and so a network of its own."""
    path = builtin_models().get("stage")
    network = causal(str(path)) if path else None
    point = Point("", network) if network else None
    return [replace(point, name=f"{point.latency_ms:.0f} ms (stage)")] if point else []


def causal(model: str) -> CausalBSRoformer:
    network, _card = load_model(model)
    if not isinstance(network, CausalBSRoformer):
        raise SystemExit(f"model {model!r} is not causal: it has no latency to turn")
    return network


def chosen(songs: Sequence[HeldOutSong], each: int | None, seconds: float) -> list[HeldOutSong]:
    """So many songs of each set, and of each the part of this length with the loudest vocals."""
    sets = [list(same) for _, same in groupby(songs, key=lambda song: song.kind)]
    return [song.excerpt(seconds) for same in sets for song in same[:each]]


def load_of(point: Point, hops: int) -> dict[str, float] | None:
    """Percentiles of the load per hop, of the engine's separator; None where nothing streams."""
    if point.latency_ms is None:
        return None
    separator = CausalSeparator(point.network)
    separator.warm_up()
    hop_s = separator.hop_frames / separator.sample_rate_hz
    figures = summary(time_hops(separator, hops, paced=True), hop_s)
    separator.close()
    return {key: round(value, 3) for key, value in figures.items()}


def measure(points: Sequence[Point], songs: Sequence[HeldOutSong], hops: int) -> dict[str, Any]:
    """Everything that table and figure show."""
    rows = evaluate({point.name: point.network for point in points}, songs, tell)
    told = []
    for point in points:
        tell(f"load at {point.name}")
        facts = {"name": point.name, "latency_ms": point.latency_ms, "load": load_of(point, hops)}
        told.append(facts | {"look_ahead_frames": point.network.config.look_ahead_frames})
    return {"machine": processor(), "points": told, "means": means(rows), "rows": rows}


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def as_markdown(found: dict[str, Any]) -> str:
    """Load, then SI-SDR by set and stem; one column for every latency."""
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
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


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
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def draw_scores(axes: Axes, found: dict[str, Any], kind: str) -> None:
    places = places_of(found["points"])
    for row in (row for row in found["means"] if row["set"] == kind):
        scores = [row[point["name"]] for point in found["points"]]
        known = [(at, score["si_sdr"]) for at, score in zip(places, scores, strict=True) if score]
        axes.plot(
            *zip(*known, strict=True), "o-", color=COLOURS[row["stem"]], label=row["stem"], markersize=4
        )
    axes.set_title(SETS[kind], fontsize=9)
    label_latencies(axes, found["points"])


def draw_load(axes: Axes, found: dict[str, Any]) -> None:
    places = places_of(found["points"])
    live = [(at, point["load"]) for at, point in zip(places, found["points"], strict=True) if point["load"]]
    for kind, line in (("p50", "o-"), ("p99", "o:")):
        values = [load[f"load_{kind}"] for _, load in live]
        axes.plot([at for at, _ in live], values, line, color=COLOURS["vocals"], label=kind, markersize=4)
    axes.set_ylim(bottom=0)
    axes.set_title("load per hop, one core", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    label_latencies(axes, found["points"])


def places_of(points: Sequence[dict[str, Any]]) -> list[float]:
    """Where points lie on the axis: latency in ms, and the whole song at twice the longest."""
    longest = max((point["latency_ms"] for point in points if point["latency_ms"]), default=100.0)
    return [point["latency_ms"] or 2 * longest for point in points]


def label_latencies(axes: Axes, points: Sequence[dict[str, Any]]) -> None:
    axes.set_xscale("log")
    labels = [f"{point['latency_ms']:.0f}" if point["latency_ms"] else "whole" for point in points]
    axes.set_xticks(places_of(points), labels)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("algorithmic latency in ms")
    axes.grid(alpha=0.3)


def write(found: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "latency_quality.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    (out / "latency_quality.md").write_text(as_markdown(found))
    picture(found).savefig(out / "latency_quality.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", required=True, help="id or path of a model trained with several look-aheads"
    )
    parser.add_argument(
        "--audio", type=Path, help="library with a test split (default: synthetic songs only)"
    )
    parser.add_argument("--songs", type=int, help="how many of each set (default: all)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each song (default: %(default)s)")
    parser.add_argument("--hops", type=int, default=1500, help="hops to time (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("latency-quality"), help="folder (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    points = by_latency(stage_point() + points_of(causal(options.model)))
    with TemporaryDirectory() as cache:
        songs = held_out_songs(options.audio, Path(cache), options.seconds)
    found = measure(points, chosen(songs, options.songs, options.seconds), options.hops)
    write(found, options.out)
    print(as_markdown(found), end="")


if __name__ == "__main__":
    main()
