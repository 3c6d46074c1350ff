"""`stembridge separate`: audio files in, one file per stem out."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from host.errors import USER_ERROR, complain, guarded, is_expected, one_line
from host.library import Job, LibraryError, Outcome, assign_folders, find_inputs, finished
from host.models import from_anywhere
from host.options import device_option, json_option, model_option, precision_option, stems_option
from host.outputs import writable_folder
from host.progress import LibraryBars, library_bars
from host.renderers import DEFAULT_OVERLAP, RECIPES, Quality, SeparateError
from host.staging import remove_abandoned
from host.stem_files import BIT_CHOICES, Order, StemFormat, separate_file


@click.command(short_help="Separate audio files into stems.")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    default="stems",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the stems go, as DIR/NAME/STEM.wav.",
)
@model_option
@stems_option
@click.option("--residual", is_flag=True, help="Also write what the written stems leave of the input.")
@click.option(
    "--format",
    "container",
    type=click.Choice(["wav", "flac"]),
    default="wav",
    show_default=True,
    help="Kind of the files.",
)
@click.option(
    "--bits", type=click.Choice(BIT_CHOICES), help="Sample format; float for WAV, 24 for FLAC by default."
)
@click.option(
    "--recipe",
    type=click.Choice(RECIPES),
    default="msst",
    show_default=True,
    help="How chunks are joined: cross-faded, or 8 s every 4 s averaged.",
)
@click.option(
    "--overlap",
    type=click.IntRange(1, 64),
    help=f"Chunks that every moment is in (msst); {DEFAULT_OVERLAP} by default, 2 is twice as fast; 1 leaves "
    "two silent samples where chunks meet, as the reference does.",
)
@click.option(
    "--tta", is_flag=True, help="Average with channels swapped and polarity turned; 3 times as slow."
)
@precision_option
@click.option(
    "--batch", type=click.IntRange(1, 256), default=1, show_default=True, help="Chunks computed at a time."
)
@device_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Processor threads; all by default, 1 with --cluster. 1 is best beside other work.",
)
@click.option("--overwrite", is_flag=True, help="Redo files that are done already.")
@click.option(
    "--cluster",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="local",
    help="Share the files out on Ray: on this machine, or on the cluster at HOST:PORT.",
)
@click.option(
    "--workers", type=click.IntRange(1, 4096), help="Models on the cluster; as many as fit by default."
)
@json_option
@guarded
def separate(inputs: tuple[Path, ...], out: Path, as_json: bool, **chosen: Any) -> None:
    """Separate audio files into stems: files, folders, patterns and playlists (M3U, PLS).

    \b
    Examples:
      stembridge separate song.flac
      stembridge separate music/ --out stems --stems vocals --residual
      stembridge separate "music/**/*.flac" party.m3u --model mine.safetensors --overlap 2
      stembridge separate music/ --format flac --bits 24 --cluster

    Any rate from 8 to 192 kHz and any number of channels; stems have the input's rate, channels, text tags
    and length to the frame. A stereo model gets channels in pairs; a mono file, a centre or an LFE goes to
    both of its sides. Float never clips; for 24 and 16 bits all stems of a file get one common gain where
    one would clip.

    NAME is the file's name without suffix, below a folder its path there; where two meet, the later one
    becomes NAME-2. A finished folder holds separation.json: run the same command again, after whatever
    stopped it, and only what is missing is done. A file that cannot be separated is reported and skipped; the
    exit code is 2 then.

    With --cluster every worker needs stembridge and the same paths. Results are the same to the bit for the
    same --threads. Put it last, or write --cluster=ADDRESS: a word after it is taken for the address.
    """
    order = order_of(chosen)
    found, failed = find_inputs(inputs, out)
    settings = order.settings()
    jobs = assign_folders(found, out)
    kept = {} if chosen["overwrite"] else {job: finished(job, settings) for job in jobs}
    to_do = [job for job in jobs if not kept.get(job)]
    with _swept({job.folder.parent for job in to_do}):
        outcomes = list(_run(to_do, order, settings, out, chosen)) if to_do else []
    report(outcomes, [job for job in jobs if kept.get(job)], failed, as_json)
    if failed or any(outcome.error for outcome in outcomes):
        sys.exit(USER_ERROR)


def order_of(chosen: dict[str, Any]) -> Order:
    """What the options ask for. Errors: SeparateError, CatalogueError."""
    quality = Quality(
        recipe=chosen["recipe"],
        overlap=chosen["overlap"],
        tta=chosen["tta"],
        precision=chosen["precision"],
        batch=chosen["batch"],
        threads=chosen["threads"] or (1 if chosen["cluster"] else 0),
    )
    form = StemFormat(chosen["container"], chosen["bits"], chosen["residual"])
    return Order(from_anywhere(chosen["model"]), chosen["device"], chosen["stems"], quality, form)


@contextmanager
def _swept(parents: Collection[Path]) -> Iterator[None]:
    """Without what killed runs left in these folders, and without what killed workers leave."""
    for parent in parents:
        remove_abandoned(parent)
    try:
        yield
    finally:
        for parent in parents:
            remove_abandoned(parent)


def _run(
    jobs: Sequence[Job], order: Order, settings: dict[str, Any], out: Path, chosen: dict[str, Any]
) -> Iterator[Outcome]:
    if chosen["cluster"]:
        from host.cluster import run_on_cluster

        there = [Job(job.source.absolute(), job.folder.absolute()) for job in jobs]
        with library_bars(len(jobs)) as bars:
            yield from run_on_cluster(there, order, settings, bars, chosen["cluster"], chosen["workers"])
        return
    renderer = order.open()
    writable_folder(out)
    with library_bars(len(jobs)) as bars:
        for job in jobs:
            yield _separated(job, order, settings, renderer, bars)


def _separated(job: Job, order: Order, settings: dict[str, Any], renderer: Any, bars: LibraryBars) -> Outcome:
    try:
        work = separate_file(job, renderer, order.form, settings)
        while True:
            bars.advance(job.source, next(work))
    except StopIteration as end:
        return Outcome(job, end.value)
    except (ValueError, RuntimeError, OSError) as error:
        if not is_expected(error):
            raise
        return Outcome(job, error=one_line(error))
    finally:
        bars.end(job.source)


def report(
    outcomes: Sequence[Outcome],
    kept: Sequence[Job],
    failed: Sequence[tuple[Path, LibraryError]],
    as_json: bool,
) -> None:
    """Say on stdout what was made, and on stderr what was not."""
    reasons = [(path, one_line(error)) for path, error in failed]
    reasons += [(outcome.job.source, outcome.error) for outcome in outcomes if outcome.error]
    for _, reason in reasons:
        complain(SeparateError(reason))
    done = [as_row(outcome.job, outcome.record) for outcome in outcomes if outcome.record]
    if as_json:
        told = {
            "separated": done,
            "done_before": [{"input": str(job.source), "folder": str(job.folder)} for job in kept],
            "failed": [{"input": str(path), "error": reason} for path, reason in reasons],
        }
        click.echo(json.dumps(told))
        return
    for row in done:
        click.echo(in_words(row))
    if kept:
        click.echo(f"{len(kept)} done before with these settings; --overwrite does them again.")


def as_row(job: Job, record: dict[str, Any]) -> dict[str, Any]:
    """A record as `--json` shows it."""
    facts = ("sample_rate_hz", "channels", "frames", "duration_s", "elapsed_s", "gain_db", "tagged")
    outputs = {name: str(job.folder / file) for name, file in record["files"].items()}
    return {"input": str(job.source), "outputs": outputs, **{name: record[name] for name in facts}}


def in_words(row: dict[str, Any]) -> str:
    """A row in one line, and a second one where the level had to be lowered."""
    folder = Path(next(iter(row["outputs"].values()))).parent
    speed = row["duration_s"] / row["elapsed_s"]
    line = f"{row['input']} -> {folder}: {', '.join(row['outputs'])} ({speed:.1f} x real time)"
    if row["gain_db"] < 0:
        line += (
            f"\n  All stems are {-row['gain_db']:.2f} dB lower, else one would clip; --bits float keeps it."
        )
    return line
