"""What each setting of the process around a live hop is worth: python -m benchmarks.cpu_settings.

The separator of a built-in profile, paced as live sound, once as it is shipped and once for each setting
undone or tried, every one in a process of its own. A fading sound is one whose samples are denormal numbers.
"""

import gc
import json
import os
from collections.abc import Callable

import torch
from rich.console import Console

from benchmarks.model_hop import causal
from host.bench_rows import Row, as_table, in_order
from host.errors import guarded
from host.hop_times import in_time, summary, time_hops
from model.checkpoint import load_model
from model.separators import CausalSeparator
from model.training.arguments import OneLineParser, count

FADED = 1e-39
LONGEST_S = 300


def as_shipped() -> None: ...


def two_threads() -> None:
    torch.set_num_threads(2)


def one_core() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def denormals_kept() -> None:
    torch.set_flush_denormal(False)


def garbage_not_frozen() -> None:
    gc.unfreeze()


SETTINGS: dict[str, tuple[Callable[[], None], float]] = {
    "as shipped": (as_shipped, 0.1),
    "two threads": (two_threads, 0.1),
    "bound to one core": (one_core, 0.1),
    "garbage not frozen": (garbage_not_frozen, 0.1),
    "as shipped, fading": (as_shipped, FADED),
    "denormals kept, fading": (denormals_kept, FADED),
}
"""What is done after the warm-up, and the level of the noise."""


def measured(model: str, name: str, hops: int) -> Row:
    change, level = SETTINGS[name]
    separator = CausalSeparator(load_model(model)[0])
    separator.warm_up()
    change()
    took = time_hops(separator, hops, paced=True, level=level)
    hop_s = separator.hop_frames / separator.sample_rate_hz
    return Row(f"{model}, paced", name, summary(took, hop_s) | {"hops": hops})


@guarded
def main() -> None:
    parser = OneLineParser(prog="python -m benchmarks.cpu_settings", description=__doc__)
    parser.add_argument("--model", default="live")
    parser.add_argument("--hops", type=count, default=1500, help="of every setting (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    causal(arguments.model)  # what is wrong with it is said here
    rows = in_order(in_time(LONGEST_S, measured, arguments.model, name, arguments.hops) for name in SETTINGS)
    if arguments.json:
        print(json.dumps([row.figures | {"name": row.name} for row in rows]))
        return
    Console(width=160, highlight=False).print(as_table(rows))


if __name__ == "__main__":
    main()
