"""What else a network could be trained with, or for: python -m benchmarks.recipes --audio LIB.

Every contestant starts from `live` as it ships and hears the same items in the same order; one thing differs
from how `live` was trained. "vocals and the rest" is for karaoke alone: its loss is that of the vocals and of
the sum of the others. (It still gives four stems, so it is as able as the others, and more than a network of
two is: what differs is what its weights are for.) What is compared is the gain in SI-SDR over what ships on
held-out songs, in the mean of a set. A run adds to what those before it found in `--out`: recipes.json and
.md, and a folder with a checkpoint for every contestant; one that is interrupted begins anew. Start it with
torchrun to share every batch among processes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.network_sizes import heard, opened, starting
from host.errors import UserError, guarded
from host.outputs import results_folder, write_text
from model.catalogue import BUILTIN
from model.causal import CausalBSRoformer
from model.checkpoint import load_model
from model.training.arguments import OneLineParser, count, seed, tell
from model.training.distributed import Ranks, ranks_of_run
from model.training.evaluate import Row, evaluate, held_out_songs, whole
from model.training.prefetch import Batch
from model.training.recipe import Recipe
from model.training.score_tables import SETS, markdown_line, means
from model.training.settings import TrainSettings
from model.training.state import TrainingState, save_state
from model.training.step import train_step

SHIPPED = "as it ships"
RECIPE = Recipe(batch=4, learning_rate=5e-4)


@dataclass(frozen=True)
class Contestant:
    """What differs: settings of the recipe, or what it hears of a batch."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    heard: Callable[[Batch], Batch] = lambda batch: batch


def unsplit(batch: Batch) -> Batch:
    """The same items, of whose stems only the vocals and the sum of the others are compared."""
    return Batch(batch.stems, torch.zeros_like(batch.split))


CONTESTANTS = {
    "own recipe": Contestant(),
    "vocals and the rest": Contestant(heard=unsplit),
    "published loss": Contestant({"loss": "published"}),
    "dropout 0.1": Contestant({"dropout": 0.1}),
}


def trained(base: TrainSettings, names: Sequence[str], ranks: Ranks) -> dict[str, CausalBSRoformer]:
    """The averaged weights of these contestants after `recipe.steps`, rounded as they would ship.

    Errors: TrainingError, TrainingDataError.
    """
    settings = {name: settings_of(base, name) for name in names}
    states = {name: starting(own) for name, own in settings.items()}
    for _, batch in heard(opened(base, ranks), base, range(base.recipe.steps), ranks):
        learn(states, batch, settings, ranks)
    if ranks.leads:
        for name, state in states.items():
            save_state(state, settings[name])
    return {name: state.ema.round_band_weights() for name, state in states.items()}


def settings_of(base: TrainSettings, name: str) -> TrainSettings:
    recipe = replace(base.recipe, **CONTESTANTS[name].changes)
    return replace(base, out_dir=base.out_dir / name.replace(" ", "-"), recipe=recipe)


def learn(
    states: Mapping[str, TrainingState], batch: Batch, settings: Mapping[str, TrainSettings], ranks: Ranks
) -> None:
    for name, state in states.items():
        train_step(state, CONTESTANTS[name].heard(batch), settings[name], ranks)


def gains(rows: Sequence[Row], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By set and stem ("real songs, vocals"): mean SI-SDR of what ships, what each contestant adds, in dB."""
    found = {}
    for row in means(rows):
        db = {name: row[name]["si_sdr"] for name in (SHIPPED, *names)}
        added = {name: round(db[name] - db[SHIPPED], 2) for name in names}
        found[f"{SETS[row['set']]}, {row['stem']}"] = {SHIPPED: db[SHIPPED]} | added
    return found


def merged(before: Mapping[str, dict[str, float]], now: Mapping[str, dict[str, float]]) -> dict[str, Any]:
    return {line: before.get(line, {}) | scores for line, scores in now.items()}


def earlier(path: Path, steps: int, seed: int) -> dict[str, Any]:
    """What earlier runs found. Errors: UserError where they were of other steps or items."""
    found: dict[str, Any] = {"steps": steps, "seed": seed, "gains": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return found
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); restore it, or take another --out") from None
    if (found["steps"], found["seed"]) != (steps, seed):
        raise UserError(
            f"{path}: is of {found['steps']} steps and seed {found['seed']}; take these, or another --out"
        )
    return found


def as_markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    names = [name for name in CONTESTANTS if any(name in scores for scores in found.values())]
    lines = [["songs, stem", SHIPPED, *names], ["---", *["--:"] * (1 + len(names))]]
    for line, scores in found.items():
        added = [f"{scores[name]:+.2f}" if name in scores else "-" for name in names]
        lines.append([line, f"{scores[SHIPPED]:.2f}", *added])
    return "\n".join(map(markdown_line, lines)) + "\n"


def scored(networks: Mapping[str, CausalBSRoformer], base: TrainSettings) -> dict[str, dict[str, float]]:
    songs = held_out_songs(base.audio_dir, base.cache_dir, tell)
    shipped, _ = load_model(BUILTIN)
    assert isinstance(shipped, CausalBSRoformer)
    systems = {name: whole(network) for name, network in ({SHIPPED: shipped} | dict(networks)).items()}
    return gains(evaluate(systems, songs), list(networks))


@guarded
def main() -> None:
    parser = OneLineParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--audio", type=Path, help="library of recordings; without, synthesised songs alone")
    parser.add_argument("--only", choices=CONTESTANTS, action="append", help="default: all (repeatable)")
    parser.add_argument("--steps", type=count, default=240, help="default: %(default)s")
    parser.add_argument("--seed", type=seed, default=0, help="which items are drawn (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("recipes"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    path = options.out / "recipes.json"
    with results_folder(options.out), ranks_of_run("cpu") as ranks:
        found = earlier(path, options.steps, options.seed)
        base = TrainSettings(options.out, options.audio, recipe=replace(RECIPE, steps=options.steps))
        base = replace(base, seed=options.seed)
        networks = trained(base, options.only or list(CONTESTANTS), ranks)
    if not ranks.leads:
        return
    found["gains"] = merged(found["gains"], scored(networks, base))
    write_text(path, json.dumps(found, indent=1) + "\n")
    write_text(path.with_suffix(".md"), as_markdown(found["gains"]))
    print(as_markdown(found["gains"]), end="")


if __name__ == "__main__":
    main()
