"""Would a network for karaoke alone separate voices better? python -m benchmarks.two_stems --audio LIB.

Two networks start from `live` as it ships and hear the same items in the same order. The loss of one is that
of all stems that an item knows; the other's is that of the vocals and of the sum of the rest alone. Both give
four stems, so they are equally able, and more than a network of two is: what differs is what weights are for.
Printed, and written into `--out` as two_stems.json: the mean gain in SI-SDR over what ships, by set and stem,
on held-out songs. Start it with torchrun to share every batch among processes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.progress import Progress

from benchmarks.network_sizes import starting
from host.errors import guarded
from host.outputs import results_folder, write_text
from host.progress import stderr_console
from model.catalogue import BUILTIN
from model.causal import CausalBSRoformer
from model.checkpoint import load_model
from model.training.arguments import OneLineParser, count
from model.training.distributed import Ranks, ranks_of_run
from model.training.evaluate import Row, evaluate, held_out_songs, whole
from model.training.prefetch import Batch, batches
from model.training.recipe import Recipe
from model.training.score_tables import markdown_line
from model.training.settings import TrainSettings, training_stream
from model.training.sources import accepted
from model.training.state import save_state
from model.training.step import train_step

SHIPPED, FOUR, TWO = "as it ships", "all stems", "vocals and the rest"
RECIPE = Recipe(batch=4, learning_rate=5e-4)
FILE = "two_stems.json"


def unsplit(batch: Batch) -> Batch:
    """The same items, of whose stems only the vocals and the sum of the others are compared."""
    return Batch(batch.stems, torch.zeros_like(batch.split))


HEARD = {FOUR: lambda batch: batch, TWO: unsplit}


def trained(base: TrainSettings, ranks: Ranks) -> dict[str, CausalBSRoformer]:
    """The averaged weights of both after `recipe.steps`. Errors: TrainingError, TrainingDataError."""
    states = {name: starting(base) for name in HEARD}
    with ranks.leader_first():
        stream = training_stream(base)
    accepted(stream.sources, base.bad_data)
    size, steps = base.recipe.batch, range(base.recipe.steps)
    indices = (ranks.share(range(step * size, (step + 1) * size)) for step in steps)
    with (
        closing(batches(lambda: stream, indices, base.item_frames)) as coming,
        Progress(console=stderr_console(), disable=not ranks.leads) as bar,
    ):
        for _ in bar.track(steps, description="training"):
            batch = next(coming)
            for name, state in states.items():
                train_step(state, HEARD[name](batch), base, ranks)
    if ranks.leads:
        for place, state in enumerate(states.values()):
            save_state(state, replace(base, out_dir=base.out_dir / str(place)))
    return {name: state.ema.round_band_weights() for name, state in states.items()}


def gains(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean SI-SDR by set and stem of what ships, and what each training adds to it, in dB."""
    found = []
    for kind, stem in dict.fromkeys((row["set"], row["stem"]) for row in rows):
        same = [row for row in rows if (row["set"], row["stem"]) == (kind, stem)]
        means = {name: fmean(row[name]["si_sdr"] for row in same) for name in (SHIPPED, *HEARD)}
        added = {name: round(means[name] - means[SHIPPED], 3) for name in HEARD}
        found.append(
            {"set": kind, "stem": stem, "songs": len(same), SHIPPED: round(means[SHIPPED], 3), **added}
        )
    return found


def as_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    lines = [["songs", "stem", SHIPPED, *(f"{name}, trained on" for name in HEARD)]]
    lines.append(["---", "---", *["--:"] * (1 + len(HEARD))])
    for row in found:
        added = [f"{row[name]:+.2f}" for name in HEARD]
        lines.append([f"{row['set']}, {row['songs']}", row["stem"], f"{row[SHIPPED]:.2f}", *added])
    return "\n".join(map(markdown_line, lines)) + "\n"


@guarded
def main() -> None:
    parser = OneLineParser(prog="python -m benchmarks.two_stems", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--audio", type=Path, help="library of recordings; without, synthesised songs alone")
    parser.add_argument("--steps", type=count, default=400, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="which items are drawn (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("two-stems"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with results_folder(options.out), ranks_of_run("cpu") as ranks:
        recipe = replace(RECIPE, steps=options.steps)
        base = TrainSettings(options.out, options.audio, recipe=recipe, seed=options.seed)
        networks = trained(base, ranks)
    if not ranks.leads:
        return
    songs = held_out_songs(options.audio, base.cache_dir)
    shipped, _ = load_model(BUILTIN)
    assert isinstance(shipped, CausalBSRoformer)
    systems = {name: whole(network) for name, network in ({SHIPPED: shipped} | networks).items()}
    found = gains(evaluate(systems, songs))
    write_text(options.out / FILE, json.dumps({"steps": options.steps, "gains": found}, indent=1) + "\n")
    print(as_markdown(found), end="")


if __name__ == "__main__":
    main()
