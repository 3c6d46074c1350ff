"""Published shapes in half precision against float32, on a CPU: python -m benchmarks.half_precision [--json].

Random weights, a window of noise. Ours in float16 and bfloat16 and the package BS-RoFormer in FP16 autocast,
each against its own float32: masks of the same spectrum, and what a hop gives out. Gates: masks within 2e-3
of their rms and 1.2 times the package's error, output 55 dB.
"""

import json
from collections.abc import Iterator

import torch
from rich.console import Console

from host.bench_rows import Row, as_table
from host.errors import guarded
from host.machine import machine
from host.window_errors import lowered, precision_errors
from host.window_times import PEER, SHAPES, Shape, noise_window, peer_errors, peer_with, random_network
from model.config import RoformerConfig
from model.training.arguments import OneLineParser, tell
from model.window_framing import PROFILES

MIDDLE = Shape("BS 128/6, 2 s", RoformerConfig(128, 6, stft_hop_frames=441), PROFILES["gpu"])
CHOICES = {shape.name: shape for shape in (*SHAPES["cpu"], MIDDLE, *SHAPES["cuda"]) if shape.alone}
CPU = torch.device("cpu")


def rows(shape: Shape) -> Iterator[Row]:
    """Ours, then the package's."""
    exact, audio = random_network(shape, CPU), noise_window(shape, CPU)
    yield Row(shape.name, "stembridge", precision_errors(exact, lowered(exact), shape.framing, audio))
    yield Row(shape.name, f"{PEER}, FP16 autocast", peer_errors(shape, peer_with(shape, CPU, exact), CPU))


@guarded
def main() -> None:
    parser = OneLineParser(prog="python -m benchmarks.half_precision", description=__doc__)
    parser.add_argument(
        "--shape", choices=CHOICES, action="append", help="repeatable; all by default, which takes an hour"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found: list[Row] = []
    for name in options.shape or CHOICES:
        tell(name)
        found += rows(CHOICES[name])
    if options.json:
        told = [{"shape": row.group, "name": row.name, **row.figures} for row in found]
        print(json.dumps({"machine": machine(), "rows": told}))
        return
    Console(width=200).print(as_table(found))


if __name__ == "__main__":
    main()
