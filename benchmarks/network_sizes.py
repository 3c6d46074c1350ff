"""Which shape of the causal network learns most for its load: python -m benchmarks.network_sizes --audio LIB.

Every shape starts from the weights of `live` as it ships, cut or grown (fresh ones take thousands of steps to
differ), and hears the same items in the same order, at a learning rate that falls up to the last step.
What is compared is the loss of the averaged weights on the same validation items. A run goes on where the one
before it in `--out` ended, so `--steps 300` after `--steps 200` trains for 100. Start it with torchrun to
share every batch among processes: `torchrun --nproc-per-node 2 -m benchmarks.network_sizes ...`. `--loads`
then times a hop of every shape, in turn with that of the first, on a quiet machine, and trains nothing.
Written into `--out`: network_sizes.json, .md and .png, and a folder with a checkpoint for every shape.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from benchmarks.network_sizes_pages import as_markdown, picture
from benchmarks.resized import resized
from host.errors import UserError, guarded
from host.hop_times import time_hops
from host.machine import processor
from host.outputs import results_folder, write_findings
from host.progress import stderr_console
from model.catalogue import BUILTIN
from model.causal import CausalBSRoformer
from model.checkpoint import load_model
from model.config import CausalConfig
from model.separators import CausalSeparator
from model.training.arguments import OneLineParser, count, seed, tell
from model.training.dataset import ItemStream
from model.training.distributed import Ranks, ranks_of_run
from model.training.prefetch import Batch, batches
from model.training.recipe import Recipe
from model.training.settings import TrainSettings, training_stream, validation_stream
from model.training.sources import accepted
from model.training.state import TrainingState, load_state, new_state, save_state
from model.training.step import batch_loss, train_step

SHIPPED = CausalConfig()
SHAPES: dict[str, CausalConfig] = {
    "as it ships": SHIPPED,
    "three quarters of the past: 96": replace(SHIPPED, past_frames=96),
    "twice the past: 256": replace(SHIPPED, past_frames=256),
    "a block less: 2": replace(SHIPPED, depth=2),
    "a block more: 4": replace(SHIPPED, depth=4),
    "half the feed-forwards: 2": replace(SHIPPED, expansion=2),
    "half the mask layer: 16": replace(SHIPPED, mask_hidden=16),
    "twice the mask layer: 64": replace(SHIPPED, mask_hidden=64),
    "wider: 96": replace(SHIPPED, dim=96),
}
RECIPE = Recipe(batch=2, learning_rate=7e-4)
VALIDATION_ITEMS = 64
TIMED_ROUNDS, TIMED_HOPS = 5, 200
FILE = "network_sizes.json"


@dataclass
class Contestant:
    """One shape in training, and its validation losses by step."""

    name: str
    settings: TrainSettings
    state: TrainingState
    losses: dict[str, float]

    def facts(self) -> dict[str, Any]:
        parameters = sum(p.numel() for p in self.state.model.parameters())
        return {"name": self.name, "parameters": parameters, "losses": self.losses}


def starting(settings: TrainSettings) -> TrainingState:
    """What ships, cut or grown."""
    state = new_state(settings)
    trained, _ = load_model(BUILTIN)
    assert isinstance(trained, CausalBSRoformer)
    weights = resized(trained, settings.config).state_dict()
    for model in (state.model, state.ema):
        model.load_state_dict(weights)
    return state


def contestants(base: TrainSettings, earlier: dict[str, Any]) -> list[Contestant]:
    """All shapes, at their start or as the run before left them. Errors: TrainingError."""
    found, known = [], {facts["name"]: facts["losses"] for facts in earlier["shapes"]}
    for number, (name, config) in enumerate(SHAPES.items()):
        settings = replace(base, out_dir=base.out_dir / f"shape{number}", config=config)
        state = (load_state if settings.checkpoint_path.exists() else starting)(settings)
        losses = {step: loss for step, loss in known.get(name, {}).items() if int(step) <= state.step}
        found.append(Contestant(name, settings, state, losses))
    return found


def compete(base: TrainSettings, validate_every: int, earlier: dict[str, Any], ranks: Ranks) -> None:
    """Train all shapes to `recipe.steps`; the first process writes what is found at every validation.

    Errors: TrainingError, TrainingDataError.
    """
    shapes = contestants(base, earlier)
    stream = opened(base, ranks)
    first, last = min(shape.state.step for shape in shapes), base.recipe.steps
    held = validation_batches(base, ranks)
    if first == 0:
        judge(shapes, held, ranks)
    for step, batch in heard(stream, base, range(first, last), ranks):
        for shape in (s for s in shapes if s.state.step == step):
            train_step(shape.state, batch, shape.settings, ranks)
        if (step + 1) % validate_every and step + 1 < last:
            continue
        judge(shapes, held, ranks)
        if ranks.leads:
            keep(shapes, base.out_dir)


def opened(base: TrainSettings, ranks: Ranks) -> ItemStream:
    """What all learn from; the first process decodes it, and says what is left out.

    Errors: TrainingDataError, TrainingError.
    """
    ranks.check_batch(base.recipe.batch)
    with ranks.leader_first():
        stream = training_stream(base)
    for line in stream.remarks if ranks.leads else []:
        tell(line)
    accepted(stream.sources, base.bad_data)
    return stream


def heard(stream: ItemStream, base: TrainSettings, steps: range, ranks: Ranks) -> Iterator[tuple[int, Batch]]:
    """These steps, and of each one's batch this process's part, behind a progress bar."""
    size = base.recipe.batch
    indices = (ranks.share(range(step * size, (step + 1) * size)) for step in steps)
    with (
        closing(batches(lambda: stream, indices, base.item_frames)) as coming,
        Progress(console=stderr_console(), disable=not ranks.leads) as bar,
    ):
        for step in bar.track(steps, description="training"):
            yield step, next(coming)


def validation_batches(base: TrainSettings, ranks: Ranks) -> list[Batch]:
    """This process's part of the items that all shapes are judged by. Errors: as `opened`."""
    ranks.check_batch(VALIDATION_ITEMS)
    mine = (range(index, index + 1) for index in ranks.share(range(VALIDATION_ITEMS)))
    return list(batches(partial(validation_stream, base), mine, base.item_frames))


def judge(shapes: Sequence[Contestant], held: Sequence[Batch], ranks: Ranks) -> None:
    for shape in shapes:
        shape.losses[str(shape.state.step)] = validation_loss(shape, held, ranks)


@torch.no_grad()
def validation_loss(shape: Contestant, held: Sequence[Batch], ranks: Ranks) -> float:
    """Mean loss of the averaged weights over all processes' items."""
    losses = torch.stack([batch_loss(shape.state.ema, batch, shape.settings.recipe) for batch in held])
    mean = losses.mean()
    ranks.average([mean])
    return float(mean)


def keep(shapes: Sequence[Contestant], out: Path) -> None:
    """Checkpoints first: what is written of a step can then be gone on from."""
    for shape in shapes:
        save_state(shape.state, shape.settings)
    found = before(out)
    hops = {facts["name"]: facts.get("hop_ms") for facts in found["shapes"]}
    write(found | {"shapes": [s.facts() | {"hop_ms": hops.get(s.name)} for s in shapes]}, out)


def before(out: Path) -> dict[str, Any]:
    """What earlier runs found."""
    with suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads((out / FILE).read_text(encoding="utf-8"))
        return found
    return {"shapes": []}


def write(found: dict[str, Any], out: Path) -> None:
    """The three files, each whole or as it was. Errors: OutputError."""
    write_findings(out / "network_sizes", found, as_markdown(found), picture(found))


def hop_times() -> dict[str, float]:
    """Median milliseconds of a hop, back to back on one thread; every round times every shape."""
    networks = {name: CausalBSRoformer(config).round_band_weights() for name, config in SHAPES.items()}
    separators = {name: CausalSeparator(network) for name, network in networks.items()}
    for separator in separators.values():
        separator.warm_up()
    took: dict[str, list[float]] = {name: [] for name in separators}
    for _ in range(TIMED_ROUNDS):
        for name, separator in separators.items():
            took[name] += list(time_hops(separator, TIMED_HOPS, paced=False))
    return {name: round(1e3 * float(np.median(seconds)), 3) for name, seconds in took.items()}


def with_hop_times(found: dict[str, Any]) -> dict[str, Any]:
    """The same with times of this machine. Errors: UserError where nothing was trained yet."""
    if not found["shapes"]:
        raise UserError("nothing was trained in --out yet; run without --loads first")
    times = hop_times()
    shapes = [facts | {"hop_ms": times[facts["name"]]} for facts in found["shapes"]]
    return found | {"machine": processor(), "shapes": shapes}


@guarded
def main() -> None:
    parser = OneLineParser(prog="python -m benchmarks.network_sizes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--audio", type=Path, help="library of recordings; without, synthesised songs alone")
    parser.add_argument("--steps", type=count, default=300, help="steps in all (default: %(default)s)")
    parser.add_argument("--validate-every", type=count, default=100, help="steps (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="which items are drawn (default: %(default)s)")
    parser.add_argument("--loads", action="store_true", help="only time hops")
    parser.add_argument(
        "--out", type=Path, default=Path("network-sizes"), help="folder (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with results_folder(options.out), ranks_of_run("cpu") as ranks:
        if options.loads:
            write(with_hop_times(before(options.out)), options.out)
        else:
            recipe = replace(RECIPE, steps=options.steps)
            base = TrainSettings(options.out, options.audio, recipe=recipe, seed=options.seed)
            compete(base, options.validate_every, before(options.out), ranks)
    if ranks.leads:
        print(as_markdown(before(options.out)), end="")


if __name__ == "__main__":
    main()
