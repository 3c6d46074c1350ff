"""`stembridge evaluate`: how well a model separates songs whose true stems are known."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console

from host.errors import USER_ERROR, UserError, complain, guarded, is_expected, one_line
from host.musdb import STEMS, TrueSong, read_song, song_folders, sum_of, unscored_folders
from host.options import device_option, json_option, model_option, stems_option
from host.outputs import results_folder, write_bytes, write_text
from host.progress import Advance, file_bars
from host.renderers import Renderer, open_renderer, stem_indices
from host.score_report import Row, Scores, as_table, picture_of, summarise
from host.stems import separate_channels
from model.metrics import chunk_median_sdr_db, sdr_db, si_sdr_or_none
from streaming.separator import Audio

if TYPE_CHECKING:  # matplotlib takes a second
    from host.listening import Stems
    from host.report import ScoredSong

PARTS_OF_OTHER = ("guitar", "piano")
BACKINGS = ("instrumental", "accompaniment")
"""What a model may call everything but the vocals."""

BEST_DB = 100.0
"""Beyond this, either way, a score only says that floats are finite."""


class EvaluateError(UserError):
    """Something that cannot be scored as asked."""


@dataclass(frozen=True)
class Target:
    """What is compared: the sum of the `true` stems with the sum of these stems of the model."""

    stem: str
    true: tuple[str, ...]
    estimated: tuple[int, ...]


def targets(stem_names: Sequence[str], wanted: Sequence[str], model: str) -> list[Target]:
    """Which of a model's stems the true ones can score.

    A model's `other`, beside further stems, is all that it has no stem for; its guitar and piano, of which
    there is no truth, count to it. Errors: EvaluateError, SeparateError.
    """
    chosen = [stem_names[index].casefold() for index in stem_indices(stem_names, wanted, model)]
    place = {name.casefold(): index for index, name in enumerate(stem_names)}
    own = tuple(name for name in STEMS[:3] if name in place)
    found = {name: Target(name, (name,), (place[name],)) for name in own}
    if "other" in place:
        true = tuple(name for name in STEMS if name not in own) if own else ("other",)
        parts = [place[name] for name in ("other", *PARTS_OF_OTHER) if name in place]
        found["other"] = Target("other", true, tuple(parts))
    found |= {name: Target(name, STEMS[1:], (place[name],)) for name in BACKINGS if name in place}
    scored = [found[name] for name in chosen if name in found]
    if not scored:
        raise EvaluateError(
            f"Model '{model}' gives {', '.join(chosen)}: true {', '.join(STEMS)} cannot score that; "
            "choose another model."
        )
    return scored


def score_song(
    song: TrueSong,
    renderer: Renderer,
    scored: Sequence[Target],
    baselines: bool,
    progress: Advance,
    listen: Callable[[TrueSong, Stems], None] = lambda song, stems: None,
) -> list[Row]:
    """One row per target: the scores of the model and of the baselines. `listen` gets what was compared."""
    truths = np.stack([sum_of(song.stems[name] for name in target.true) for target in scored])
    rows: list[Row] = [{"stem": target.stem} for target in scored]
    stems = separate_channels(renderer, song.mixture, song.rate_hz, progress)
    estimates = [sum_of(stems[place] for place in target.estimated) for target in scored]
    _score(rows, "model", estimates, truths, song.rate_hz)
    pairs = zip(estimates, truths, strict=True)
    listen(song, {target.stem: pair for target, pair in zip(scored, pairs, strict=True)})
    del stems, estimates  # a song is hundreds of megabytes
    for system, guesses in _baselines(song, scored) if baselines else ():
        _score(rows, system, guesses, truths, song.rate_hz)
    return rows


def _baselines(song: TrueSong, scored: Sequence[Target]) -> Iterator[tuple[str, list[Audio | None]]]:
    from model.baselines import band_pass, ideal_ratio_masks  # torch takes over a second

    yield "mixture", [song.mixture for _ in scored]
    yield "band_pass", [band_pass(song.mixture, target.stem, song.rate_hz) for target in scored]
    masked = ideal_ratio_masks(song.mixture, np.stack([song.stems[name] for name in STEMS]))
    ideal = dict(zip(STEMS, masked, strict=True))
    yield "oracle", [sum_of(ideal[name] for name in target.true) for target in scored]


def _score(
    rows: list[Row], system: str, estimates: Sequence[Audio | None], truths: Audio, rate_hz: int
) -> None:
    """Add the scores of a system to the rows; None where it has no estimate."""
    present = [index for index, estimate in enumerate(estimates) if estimate is not None]
    found: dict[int, Scores] = {}
    if present:
        stack = np.stack([np.asarray(estimates[index]) for index in present])
        medians = chunk_median_sdr_db(stack, truths[present], rate_hz)
        for index, estimate, chunks in zip(present, stack, medians, strict=True):
            found[index] = _scores(estimate, truths[index], float(chunks))
    for index, row in enumerate(rows):
        row[system] = found.get(index)


def _scores(estimate: Audio, truth: Audio, chunk_median_db: float) -> Scores:
    return {
        "sdr": _bounded(chunk_median_db),
        "usdr": _bounded(float(sdr_db(estimate, truth))) if truth.any() else None,
        "si_sdr": _bounded(si_sdr_or_none(estimate, truth)),
    }


def _bounded(value: float | None) -> float | None:
    """Within 100 dB either way: one stem that is met to the last bit must not decide a mean."""
    if value is None or math.isnan(value):
        return None
    return round(max(-BEST_DB, min(BEST_DB, value)), 4)


@click.command(short_help="Score a model on songs whose stems are known.")
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Songs as DIR/SONG/STEM.wav; with the folders test and train, those of test.",
)
@model_option
@stems_option
@device_option
@click.option("--baselines", is_flag=True, help="Score the mixture, a band-pass and an oracle mask as well.")
@click.option(
    "--out",
    metavar="DIR",
    default="scores",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where scores.json and scores.png go.",
)
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write a page to listen to: ten seconds of every song, its stems and the truth.",
)
@json_option
@guarded
def evaluate(
    data: Path,
    model: str,
    stems: tuple[str, ...],
    device: str,
    baselines: bool,
    out: Path,
    report: Path | None,
    as_json: bool,
) -> None:
    """Separate songs whose stems are known and score the result, in dB; higher is better.

    \b
    Examples:
      stembridge evaluate --data musdb18hq/test
      stembridge evaluate --data musdb18hq/test --model mine.safetensors --stems vocals --baselines

    \b
    SDR     of MUSDB18 tables (cSDR): the median over 1-s windows, as museval (BSSEval v4) defines it.
    uSDR    of the Music Demixing Challenge: 10 log10(|s|^2 / |s - e|^2) over the whole song.
    SI-SDR  as uSDR, but blind to the level.

    A song is a folder with vocals, drums, bass and other as .wav or .flac, alike in rate, channels and
    length; where it has no mixture their sum is one. Where a stem is silent there is no score: `-` in the
    table, null in the JSON; no score exceeds 100 dB. As in museval a window counts only where all scored
    stems sound. A song that cannot be scored is reported and left out; the exit code is 2 then.
    """
    songs = song_folders(data)
    if others := unscored_folders(data):
        click.echo(f"not scored: {', '.join(others)}; --data takes another folder of songs", err=True)
    renderer = open_renderer(model, device, ())
    scored = targets(renderer.stem_names, stems, model)
    heard: list[ScoredSong] = []
    listen = partial(_keep_excerpt, heard) if report else _unheard
    with results_folder(out):
        rows, failed = score_songs(songs, renderer, scored, baselines, listen)
        for _, reason in failed:  # now that no bar is drawn over them
            complain(reason)
        publish(
            {
                "model": model,
                "data": str(data),
                "songs": rows,
                "summary": summarise(rows),
                "failed": [{"song": name, "error": one_line(reason)} for name, reason in failed],
            },
            out,
            as_json,
        )
    if report:
        write_page(report, f"{model} on {data}", heard)
    if failed:
        sys.exit(USER_ERROR)


Listen = Callable[[str, TrueSong, "Stems"], None]
"""Is given a song's name, the song, and what was compared."""


def _unheard(name: str, song: TrueSong, stems: Stems) -> None:
    pass


def _keep_excerpt(heard: list[ScoredSong], name: str, song: TrueSong, stems: Stems) -> None:
    from host.listening import excerpt

    heard.append(excerpt(name, song.mixture, stems, song.rate_hz))


def write_page(path: Path, title: str, songs: Sequence[ScoredSong]) -> None:
    """Write the page to listen to. Errors: OutputError."""
    from host.report import listening_page

    write_text(path, listening_page(title, songs))


def score_songs(
    songs: dict[str, Path],
    renderer: Renderer,
    scored: Sequence[Target],
    baselines: bool,
    listen: Listen = _unheard,
) -> tuple[list[Row], list[tuple[str, Exception]]]:
    """The rows of all songs, and those that could not be scored with the reason."""
    rows: list[Row] = []
    failed: list[tuple[str, Exception]] = []
    with file_bars() as open_bar:
        bar = open_bar(f"{len(songs)} songs")
        for number, (name, folder) in enumerate(songs.items()):
            try:
                part = _part(bar, number, len(songs))
                song = read_song(folder)
                found = score_song(song, renderer, scored, baselines, part, partial(listen, name))
            except (ValueError, RuntimeError, OSError) as error:
                if not is_expected(error):
                    raise
                failed.append((name, error))
            else:
                rows += [{"song": name, **row} for row in found]
            bar((number + 1) / len(songs))
    return rows, failed


def _part(bar: Advance, number: int, count: int) -> Advance:
    return lambda done: bar((number + done) / count)


def publish(told: dict[str, Any], out: Path, as_json: bool) -> None:
    """Say on stdout what came out; where there are scores, write scores.json and scores.png.

    Errors: OutputError.
    """
    text = json.dumps(told, allow_nan=False)
    if told["songs"]:
        write_text(out / "scores.json", text + "\n")
        write_bytes(out / "scores.png", picture_of(told["songs"]))
    if as_json:
        click.echo(text)
    elif told["songs"]:
        Console(highlight=False, markup=False).print(as_table(told["songs"], told["summary"]))
        click.echo(f"{out / 'scores.json'}, {out / 'scores.png'}")
