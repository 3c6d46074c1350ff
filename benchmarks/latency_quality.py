"""Quality and load against latency: python -m benchmarks.latency_quality --model DIAL --audio LIB.

One checkpoint that was trained with several look-aheads is scored on held-out songs at each of them, and,
unbounded, on sliding windows of several lengths and look-aheads; beside it the `stage` profile where its
weights are installed. Written into `--out`: latency_quality.png, .md and .json. SI-SDR is the mean over the
songs of a set; load is compute time over hop duration on one core, paced where a hop streams, and over the
length of the sound at the whole song. Scores take long and do not mind company, loads are the other way
round: `--loads` measures only those again, of the same weights. Every system hears LEAD_IN_S of a song
before what is scored: a window that reaches back to silence does worse.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.latency_quality_pages import as_markdown, picture
from benchmarks.model_hop import causal
from host.errors import UserError, guarded
from host.hop_times import hop_step, runs_in, summary, time_hops, timed
from host.machine import processor
from host.outputs import results_folder, write_findings
from model.catalogue import builtin_models
from model.causal import CausalBSRoformer
from model.config import WHOLE_SIGNAL
from model.separators import CausalSeparator
from model.training.arguments import OneLineParser, count, seconds, tell
from model.training.card import digest_of
from model.training.evaluate import HeldOutSong, Separate, evaluate, held_out_songs, whole
from model.training.score_tables import means
from model.training.synth import Audio
from model.window_framing import WindowFraming
from model.windowed import WindowedSeparator
from streaming.overlap_add import OverlapAdd

WHOLE_SONG = "whole song"
"""Given in overlapping pieces of `model.offline`, as `stembridge separate` does."""
GPU_LOOK_AHEAD_S, GPU_WINDOW_S = 0.05, 2.0
HOP_S, FADE_S = 0.04, 0.01
WINDOWS_S = (1.0, 4.0)
"""Beside GPU_WINDOW_S, at GPU_LOOK_AHEAD_S."""
LOOK_AHEADS_S = (0.01, 0.05, 0.13)
"""At GPU_WINDOW_S: 60, 100 and 180 ms of latency."""
WINDOW_LOAD_S = 20.0
WHOLE_LOAD_S, WHOLE_LOAD_RUNS = 10.0, 5
"""The load at the whole song is of so much noise, so often."""
LEAD_IN_S = 4.0
"""As long as the longest window."""


@dataclass(frozen=True)
class Point:
    """One network at one latency; one that sees the whole song has none, unless it does so in windows."""

    name: str
    network: CausalBSRoformer
    framing: WindowFraming | None = None

    @property
    def latency_ms(self) -> float | None:
        config = self.network.config
        if self.framing is None and not config.streams:
            return None
        frames = self.framing.latency_frames if self.framing else config.latency_frames
        return 1000 * frames / config.sample_rate_hz

    @property
    def separate(self) -> Separate:
        """The way that its scores are of."""
        return on_windows(self.network, self.framing, LEAD_IN_S) if self.framing else whole(self.network)

    def facts(self) -> dict[str, Any]:
        """What table and picture show of it beside its scores."""
        rate = self.network.config.sample_rate_hz
        told = {"name": self.name, "latency_ms": self.latency_ms, "window_s": None}
        if self.framing:
            told["window_s"] = self.framing.window_frames / rate
        return told | {"look_ahead_frames": self.network.config.look_ahead_frames}


def on_windows(network: CausalBSRoformer, framing: WindowFraming, skipped_s: float = 0.0) -> Separate:
    """Stems as the live engine gives them, on the frames of the mixture; silence lies around it.

    Windows that end in the first `skipped_s` are left out, and their stems are silent.
    """
    separator = WindowedSeparator(network, framing)
    window, hop, fade = framing.window_frames, framing.hop_frames, framing.fade_frames
    before, stems = window - hop, len(separator.stem_names)

    def separate(mixture: Audio) -> Mapping[str, Audio]:
        frames, overlap_add = mixture.shape[1], OverlapAdd(stems, len(mixture), hop, fade)
        hops = -(-(frames + framing.latency_frames - hop) // hop)
        padded = np.pad(mixture, ((0, 0), (before, hops * hop - frames)))
        out = np.zeros((stems, len(mixture), hops * hop), np.float32)
        contribution = np.empty((stems, len(mixture), hop + fade), np.float32)
        for start in range(round(skipped_s * separator.sample_rate_hz) // hop * hop, hops * hop, hop):
            separator.separate(padded[:, start : start + window], contribution)
            overlap_add.add(contribution, out[..., start : start + hop])
        late = framing.latency_frames - hop
        return dict(zip(separator.stem_names, out[..., late : late + frames], strict=True))

    return separate


def at(network: CausalBSRoformer, look_ahead_frames: int) -> CausalBSRoformer:
    """The same weights at another of the look-aheads that they were trained for."""
    return network.reconfigured(network.config.with_look_ahead(look_ahead_frames))


def points_of(network: CausalBSRoformer) -> list[Point]:
    """The network at each look-ahead that it was trained for, from the shortest latency to the whole song."""
    found = []
    for frames in network.config.known_look_aheads:
        point = Point(WHOLE_SONG, at(network, frames))
        ms = point.latency_ms
        found.append(point if ms is None else replace(point, name=f"{ms:.0f} ms"))
    return by_latency(found)


def windows_of(network: CausalBSRoformer) -> list[Point]:
    """The network, seeing everything, on sliding windows; none where it was not trained for that."""
    if WHOLE_SIGNAL not in network.config.known_look_aheads:
        return []
    unbounded = at(network, WHOLE_SIGNAL)
    framings = [(GPU_WINDOW_S, ahead) for ahead in LOOK_AHEADS_S]
    framings += [(window, GPU_LOOK_AHEAD_S) for window in WINDOWS_S]
    points = []
    for window_s, ahead_s in framings:
        point = Point("", unbounded, framed(unbounded, window_s, ahead_s))
        points.append(replace(point, name=f"{point.latency_ms:.0f} ms, {window_s:g} s"))
    return by_latency(points)


def framed(network: CausalBSRoformer, window_s: float, look_ahead_s: float) -> WindowFraming:
    """In whole STFT hops; hop and fade as in the `gpu` framing."""
    config = network.config
    lengths = (window_s, HOP_S, look_ahead_s, FADE_S)
    hops = (max(1, round(s * config.sample_rate_hz / config.hop_frames)) for s in lengths)
    return WindowFraming(*(n * config.hop_frames for n in hops)).check(config)


def by_latency(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: float("inf") if point.latency_ms is None else point.latency_ms)


def stage_point() -> list[Point]:
    """The shortest latency has a hop of its own, and so a network of its own."""
    path = builtin_models().get("stage")
    network = causal(str(path)) if path else None
    point = Point("", network) if network else None
    return [replace(point, name=f"{point.latency_ms:.0f} ms (stage)")] if point else []


def chosen(songs: Sequence[HeldOutSong], each: int | None, seconds: float) -> list[HeldOutSong]:
    """So many songs of each set, and of each the part of this length with the loudest vocals.

    Errors: UserError where a song is too short for that.
    """
    for song in songs:
        if song.seconds < LEAD_IN_S + seconds:
            raise UserError(
                f"{song.name}: shorter than {seconds:g} + {LEAD_IN_S:g} s; leave it out, or score less of it"
            )
    sets = [list(same) for _, same in groupby(songs, key=lambda song: song.kind)]
    return [song.excerpt(seconds, LEAD_IN_S) for same in sets for song in same[:each]]


def load_of(point: Point, hops: int) -> dict[str, float]:
    """Percentiles of the load: per hop of the engine's separator, or of sounds that are separated at once."""
    if point.latency_ms is None:
        took, length_s = _times_of_wholes(point.network), WHOLE_LOAD_S
    else:
        took, length_s = _times_of_hops(point, hops)
    return {key: round(value, 3) for key, value in summary(took, length_s).items()}


def _times_of_wholes(network: CausalBSRoformer) -> NDArray[np.float64]:
    config = network.config
    frames = round(WHOLE_LOAD_S * config.sample_rate_hz)
    noise = 0.1 * np.random.default_rng(0).standard_normal((config.channels, frames), np.float32)
    return timed(lambda _: whole(network)(noise), WHOLE_LOAD_RUNS)


def _times_of_hops(point: Point, hops: int) -> tuple[NDArray[np.float64], float]:
    """Seconds of every hop, and a hop's length in seconds."""
    separator: CausalSeparator | WindowedSeparator
    if point.framing:
        separator = WindowedSeparator(point.network, point.framing)
        torch.set_num_threads(1)
        separator.warm_up()
        step = hop_step(separator)
        took = timed(step, min(hops, runs_in(step, WINDOW_LOAD_S)))  # too slow to be paced on a processor
    else:
        separator = CausalSeparator(point.network)
        separator.warm_up()
        took = time_hops(separator, hops, paced=True)
    separator.close()
    return took, separator.hop_frames / separator.sample_rate_hz


def scored(points: Sequence[Point], options: argparse.Namespace) -> dict[str, Any]:
    """The scores on the songs that the command line asks for. Errors: TrainingDataError, UserError."""
    with TemporaryDirectory() as cache:
        songs = held_out_songs(options.audio, Path(cache), tell, options.seconds + LEAD_IN_S)
    found = measure(points, chosen(songs, options.songs, options.seconds))
    return found | {"songs": options.songs, "seconds": options.seconds, "weights": digests_of(points)}


def digests_of(points: Sequence[Point]) -> list[str]:
    """The weights that the points have, each once."""
    return list(dict.fromkeys(digest_of(point.network.state_dict()) for point in points))


def measure(points: Sequence[Point], songs: Sequence[HeldOutSong]) -> dict[str, Any]:
    """The scores that table and figure show."""
    rows = evaluate({point.name: point.separate for point in points}, songs, tell)
    return {"points": [point.facts() for point in points], "means": means(rows), "rows": rows}


def with_loads(found: Mapping[str, Any], points: Sequence[Point], hops: int) -> dict[str, Any]:
    """The same with the loads of this machine."""
    loaded = []
    for facts, point in zip(found["points"], points, strict=True):
        tell(f"load at {point.name}")
        loaded.append({**facts, "load": load_of(point, hops)})
    return {**found, "machine": processor(), "hops": hops, "points": loaded}


def write(found: dict[str, Any], out: Path) -> None:
    """The three files, each whole or as it was. Errors: OutputError."""
    write_findings(out / "latency_quality", found, as_markdown(found), picture(found))


def earlier(out: Path, points: Sequence[Point]) -> dict[str, Any]:
    """What a run before this one found of the same points and weights. Errors: UserError where none did."""
    path = out / "latency_quality.json"
    found: dict[str, Any] = {}
    names: list[str] = []
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or no such JSON
        found = json.loads(path.read_text())
        names = [facts["name"] for facts in found["points"]]
    if names != [point.name for point in points]:
        raise UserError(f"{path}: holds no scores of these points; run without --loads first")
    if found.get("weights") != digests_of(points):
        raise UserError(f"{path}: holds scores of other weights; run without --loads first")
    return found


@guarded
def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", required=True, help="id or path of a model trained with several look-aheads"
    )
    parser.add_argument(
        "--audio", type=Path, help="library with a test split (default: synthetic songs only)"
    )
    parser.add_argument("--songs", type=count, help="how many of each set (default: all)")
    parser.add_argument("--seconds", type=seconds, default=30.0, help="of each song (default: %(default)s)")
    parser.add_argument("--hops", type=count, default=1500, help="hops to time (default: %(default)s)")
    parser.add_argument("--loads", action="store_true", help="only the loads again, scores as in --out")
    parser.add_argument(
        "--out", type=Path, default=Path("latency-quality"), help="folder (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    dial = causal(options.model)
    points = by_latency(stage_point() + points_of(dial)) + windows_of(dial)
    with results_folder(options.out):
        found = earlier(options.out, points) if options.loads else scored(points, options)
        found = with_loads(found, points, options.hops)
        write(found, options.out)
    print(as_markdown(found), end="")


if __name__ == "__main__":
    main()
