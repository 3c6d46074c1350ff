"""Time of one hop of a causal model on one thread: python -m benchmarks.model_hop [--model ID] [--json].

Load is compute time over hop duration; a hop that takes longer than the engine's allowance is late.
`--paced` waits for every hop's turn as live audio does (caches cool and clocks drop in between).
`--record FILE` keeps the figures there under the name of the weights; `model/weights/hop_times.json` is what
the score tables show.
"""

import json
import time
from pathlib import Path
from typing import Any

from host.errors import UserError, guarded
from host.hop_times import summary, time_hops
from host.machine import processor
from host.outputs import writable_folder, write_text
from model.catalogue import canonical, known_models, resolve
from model.causal import CausalBSRoformer
from model.checkpoint import load_model
from model.profiles import PROFILES
from model.separators import CausalSeparator
from model.training.arguments import OneLineParser, count
from model.training.card import digest_of


def network_of(model: str) -> tuple[CausalBSRoformer, str]:
    """The network and the name of its weights; a profile without any has random ones, which cost the same.

    Errors: as `causal`.
    """
    name = canonical(model)
    if name in PROFILES and name not in known_models():
        return CausalBSRoformer(PROFILES[name]), "random weights"
    return causal(model), resolve(model).stem


def causal(model: str) -> CausalBSRoformer:
    """A causal model by id or path. Errors: CatalogueError, CheckpointError, ConfigError, UserError."""
    network, _card = load_model(model)
    if not isinstance(network, CausalBSRoformer):
        raise UserError(f"model {model!r} is not causal: it has no hops of its own; choose one of ours")
    return network


def record(path: Path, name: str, network: CausalBSRoformer, figures: dict[str, Any]) -> None:
    """Keep figures in a JSON file, under a name, with what they were measured of and on."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    table[name] = figures | {"machine": processor(), "sha256": digest_of(network.state_dict())}
    write_text(path, json.dumps(table, sort_keys=True) + "\n")


@guarded
def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin", help="model id or path (default: %(default)s)")
    parser.add_argument("--hops", type=count, default=3000, help="hops to time (default: %(default)s)")
    parser.add_argument("--paced", action="store_true", help="one hop every hop duration, as live")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep the figures in this JSON file")
    options = parser.parse_args()
    network, weights = network_of(options.model)
    if options.record:
        writable_folder(options.record.parent)
    separator = CausalSeparator(network)
    start = time.perf_counter()
    separator.warm_up()
    warm_up_s = time.perf_counter() - start
    seconds = time_hops(separator, options.hops, options.paced)
    hop_s = separator.hop_frames / separator.sample_rate_hz
    figures = {"weights": weights, "hops": options.hops, "paced": options.paced, "hop_ms": hop_s * 1e3}
    figures |= {"warm_up_s": warm_up_s} | summary(seconds, hop_s)
    if options.record:
        record(options.record, weights, network, figures)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:12} {value:.3f}" if isinstance(value, float) else f"{name:12} {value}")


if __name__ == "__main__":
    main()
