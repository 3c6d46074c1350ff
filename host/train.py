"""`stembridge train`: the built-in model anew, or one of your own."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Iterable
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
from host.options import NumberRange, device_option, json_option
from host.progress import stderr_console
from model.profiles import TRAINABLE
from model.training.arguments import MOST_SEED
from model.training.mix import MixError, parse_mix
from model.training.recipe import PRECISIONS, RECIPES, Recipe

if TYPE_CHECKING:
    from model.config import CausalConfig
    from model.training.settings import TrainSettings

SONGS_HELP = (
    "Folder of songs, each a folder of vocals/drums/bass/other or vocals/instrumental files;"
    " with the folders train and test (as MUSDB18-HQ), each is its split."
)
MOST_PARAMETERS = 1_000_000_000  # ten times the largest published network; 16 GB to train
QUIET_S = 10.0  # then a user who sees no step wonders
LINE_EVERY_S = 30.0  # where there is no terminal to draw a bar on
SIZES = ("dim", "depth", "heads", "dim_head", "past_frames", "mask_hidden")
RECIPE_OPTIONS = ("loss", "items", "steps", "batch", "item_s", "learning_rate", "dropout", "precision")
_PATH = click.Path(path_type=Path, file_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(short_help="Train the built-in model anew, or your own.")
@click.option("--out", "out_dir", type=_PATH, required=True, help="Folder for checkpoint, cache and weights.")
@click.option("--audio", "audio_dir", type=_FOLDER, help="Library of recordings with a files.tsv.")
@click.option("--songs", "songs_dir", type=_FOLDER, help=SONGS_HELP)
@click.option(
    "--profile",
    type=click.Choice(list(TRAINABLE)),
    help="What to train; `live` by default. dial: one network for many look-aheads, drawn per batch.",
)
@click.option(
    "--init", metavar="MODEL", help="Start from this model: one of ours or a published BS-RoFormer."
)
@click.option("--dim", type=click.IntRange(1), help="Channels of every band; 64 by default.")
@click.option("--depth", type=click.IntRange(1), help="Blocks of a time and a band layer; 3 by default.")
@click.option("--heads", type=click.IntRange(1), help="Heads of the attention; 4 by default.")
@click.option("--dim-head", type=click.IntRange(2), help="Channels of a head, even; 16 by default.")
@click.option("--past-frames", type=click.IntRange(1), help="Hops that attention hears; 128 by default.")
@click.option("--mask-hidden", type=click.IntRange(1), help="Hidden channels of a mask; 32 by default.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
@click.option("--minutes", type=NumberRange(0), help="Stop after this time; --resume goes on.")
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    help="own (default): cheap, for a CPU; published: after arXiv 2309.02612, but for what the README says."
    " Options below change it.",
)
@click.option("--steps", type=int, help="Steps in all; they shape the learning rate.")
@click.option("--batch", type=int, help="Items per step, of all processes together.")
@click.option("--item-s", type=float, help="Seconds that an item lasts.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option(
    "--loss",
    type=click.Choice(["snr", "published"]),
    help="snr: signal to error, cheap; published: L1 of waveform and five STFTs.",
)
@click.option(
    "--items",
    type=click.Choice(["own", "published"]),
    help="own: all kinds of recordings and synthesis; published: stems of any songs and places, +-3 dB.",
)
@click.option(
    "--mix",
    metavar="KIND=RATIO,...",
    help="Of what `own` items consist, such as recorded=0.6,speech=0.",
)
@click.option(
    "--bad-data",
    type=click.Choice(["skip", "refuse"]),
    help="Files, songs and splits that cannot be used: name and skip them (default), or name and refuse.",
)
@click.option("--dropout", type=float, help="Chance of dropping a value of the transformers.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of the transformers; all else is FP32.")
@click.option("--seed", type=click.IntRange(0, MOST_SEED), help="Which items are drawn.")
@device_option
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of the network."
)
@click.option(
    "--workers", type=click.IntRange(0), help="Processes that make items ahead; a GPU needs about 15."
)
@click.option("--validate-every", type=click.IntRange(0), help="Steps between validations; 0: none.")
@json_option
@guarded
def train(threads: int, as_json: bool, **chosen: Any) -> None:
    """Train a causal band-split RoFormer; the result is OUT/model.safetensors.

    Without --audio and --songs it learns from songs that stembridge synthesises itself. A run stopped by
    Ctrl-C or SIGTERM keeps its checkpoint; --resume goes on as if nothing had happened. OUT/curve.png shows
    loss and validation; OUT/logs holds the same for TensorBoard, as it happens (written where the extra
    `train` is installed, shown by the package `tensorboard`).

    Under torchrun every process takes its part of each batch; OUT is one folder that all see.

    \b
    Examples:
      stembridge train --out my-model --minutes 60
      stembridge train --out my-model --songs musdb18hq
      stembridge train --out my-stage --profile stage --init my-model/model.safetensors
      torchrun --nproc-per-node 4 -m host train --out big --songs musdb18hq \\
        --recipe published --dim 384 --depth 12 --heads 8 --dim-head 64 --batch 64 --workers 8
      stembridge live --model my-model/model.safetensors
    """
    import torch

    from host.training_log import TrainingLog
    from model.training.train import train as run

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    settings = train_settings(chosen)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the checkpoint is written
    with _Bar(settings) as bar, TrainingLog(settings.out_dir, bar.note) as log:

        def report(progress: Any) -> None:
            bar.show(progress)
            log.take(progress)

        try:
            state = run(settings, report, bar.remark)
        except KeyboardInterrupt:
            bar.say_what_is_kept()
            raise
    result = {"weights": str(settings.weights_path), "steps": state.step, "of": settings.recipe.steps}
    line = f"{result['weights']}: {state.step} of {settings.recipe.steps} steps."
    if _leads():
        click.echo(json.dumps(result | {"remarks": bar.remarks}) if as_json else line)


def _leads() -> bool:
    """Whether this is, of the processes of a torchrun, the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


def train_settings(chosen: dict[str, Any]) -> TrainSettings:
    """The settings that the options stand for; what was not given keeps its default, or what is resumed."""
    from model.devices import chosen_device
    from model.training.settings import TrainSettings
    from model.training.state import resumed

    given = {name: value for name, value in chosen.items() if value is not None}
    base = TrainSettings(out_dir=given["out_dir"])
    if given["resume"]:
        base = resumed(base)
    changes = {name: given.pop(name) for name in RECIPE_OPTIONS if name in given}
    recipe = _recipe(base, given.pop("recipe", None), changes)
    sizes = {name: given.pop(name) for name in SIZES if name in given}
    config = _config(base, given.pop("profile", None), given.get("init"), sizes)
    given["device"] = chosen_device(given["device"])
    if "mix" in given:
        if recipe.items != "own":
            raise MixError("--mix: published items have no mix; leave out one of the two")
        given["mix"] = parse_mix(given["mix"])
    return dataclasses.replace(base, **given, recipe=recipe, config=config)


def _recipe(base: TrainSettings, name: str | None, changes: dict[str, Any]) -> Recipe:
    return dataclasses.replace(RECIPES[name] if name else base.recipe, **changes)


def _options(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _config(
    base: TrainSettings, profile: str | None, init: str | None, sizes: dict[str, Any]
) -> CausalConfig:
    from model.config import ConfigError
    from model.training.recipe import TrainingError
    from model.training.starting import configuration_from

    framing = TRAINABLE[profile] if profile else None
    if init and sizes:
        raise TrainingError(f"--init: {init} has a size of its own; leave out {_options(sizes)}")
    if init:
        return configuration_from(init, framing)
    try:
        config = dataclasses.replace(framing or base.config, **sizes)
    except ConfigError as error:
        raise TrainingError(f"no network has this size: {error}") from None
    if config.least_parameters > MOST_PARAMETERS:
        raise TrainingError(f"{_options(sizes)}: over {MOST_PARAMETERS:,} weights; choose a smaller network")
    return config


class _Bar:
    """A progress bar with ETA on a terminal, a line now and then elsewhere; what takes long before the first
    step is said in both."""

    def __init__(self, settings: TrainSettings) -> None:
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._console = stderr_console()
        self._bar = Progress(
            *columns, console=self._console, disable=not (self._console.is_terminal and _leads())
        )
        self._task = self._bar.add_task("training", total=settings.recipe.steps, loss=0.0)
        self._said_at = time.monotonic()
        self._checkpoint, self._cache = settings.checkpoint_path, settings.cache_dir
        line = f"preparing items: recordings are read and songs synthesised once, into {settings.cache_dir}"
        self._waiting = threading.Timer(QUIET_S, self.note, (line,))
        self._waiting.daemon = True
        self.remarks: list[str] = []

    def __enter__(self) -> _Bar:
        self._bar.start()
        if _leads():
            self._waiting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.cancel()
        self._bar.stop()

    def show(self, progress: Any) -> None:
        """Take a report of the trainer."""
        self._waiting.cancel()
        self._bar.update(self._task, completed=progress.step, loss=progress.loss)
        if self._bar.disable and time.monotonic() - self._said_at > LINE_EVERY_S:
            self._said_at = time.monotonic()
            left = f"{progress.eta_s / 60:.0f} min left"
            self.note(f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  {left}")

    def say_what_is_kept(self) -> None:
        """Of a run that was stopped."""
        if not _leads():
            return
        if self._checkpoint.is_file():
            self.note(f"stopped: {self._checkpoint} keeps what was learned; go on with --resume")
        else:
            self.note(f"stopped before the first step: what was prepared stays in {self._cache}")

    def remark(self, line: str) -> None:
        """Print a line above the bar and keep it for the result."""
        self.remarks.append(line)
        self.note(line)

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)  # a path stays whole
