"""`stembridge train`: the built-in model anew, or one of your own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from host.errors import guarded
from host.progress import stderr_console

if TYPE_CHECKING:
    from model.training.train import TrainSettings

LINE_EVERY_S = 30.0  # where there is no terminal to draw a bar on


@click.command(short_help="Train the built-in model anew, or your own.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for checkpoint, cache and weights.",
)
@click.option(
    "--audio",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Library of recordings with a files.tsv.",
)
@click.option(
    "--songs",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of songs as vocals/drums/bass/other files.",
)
@click.option("--minutes", type=float, help="Stop after this time; --resume goes on.")
@click.option("--steps", type=int, help="Steps in all; they shape the learning rate.")
@click.option("--batch", type=int, help="Items per step.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option(
    "--loss",
    type=click.Choice(["snr", "published"]),
    help="snr: cheap; published: L1 of waveform and five STFTs.",
)
@click.option("--seed", type=int, help="Which items are drawn.")
@click.option("--threads", type=int, default=1, show_default=True, help="CPU threads.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@guarded
def train(threads: int, as_json: bool, **chosen: Any) -> None:
    """Train a causal band-split RoFormer; the result is OUT/model.safetensors.

    Without --audio and --songs it learns from songs that stembridge synthesises itself. An interrupted run
    keeps its checkpoint; --resume goes on as if nothing had happened.

    \b
    Examples:
      stembridge train --out my-model --minutes 60
      stembridge train --out my-model --songs musdb18hq/train --resume
      stembridge live --model my-model/model.safetensors
    """
    import torch

    from model.training.train import train as run

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    settings = train_settings(chosen)
    with _Bar(settings.steps) as bar:
        state = run(settings, bar.show, bar.note)
    result = {"weights": str(settings.weights_path), "steps": state.step, "of": settings.steps}
    click.echo(
        json.dumps(result) if as_json else f"{result['weights']}: {state.step} of {settings.steps} steps."
    )


def train_settings(chosen: dict[str, Any]) -> TrainSettings:
    """The settings that the options stand for; what was not given keeps its default."""
    from model.training.train import TrainSettings

    names = {"out": "out_dir", "audio": "audio_dir", "songs": "songs_dir"}
    given = {names.get(name, name): value for name, value in chosen.items() if value is not None}
    return TrainSettings(**given)


class _Bar:
    """A progress bar with ETA on a terminal, a line now and then elsewhere."""

    def __init__(self, steps: int) -> None:
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._console = stderr_console()
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("training", total=steps, loss=0.0)
        self._said_at = time.monotonic()

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Any) -> None:
        """Take a report of the trainer."""
        self._bar.update(self._task, completed=progress.step, loss=progress.loss)
        if self._bar.disable and time.monotonic() - self._said_at > LINE_EVERY_S:
            self._said_at = time.monotonic()
            left = f"{progress.eta_s / 60:.0f} min left"
            self.note(f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  {left}")

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False)
