"""Time of one hop of the built-in causal model on one thread: python -m benchmarks.model_hop [--json].

Load is compute time over hop duration; a hop that takes longer than the engine's allowance is late.
`--paced` waits for every hop's turn as live audio does (caches cool and clocks drop in between).
"""

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray

from model.catalogue import CatalogueError
from model.causal import CausalBSRoformer
from model.checkpoint import load_model
from model.config import CausalConfig
from model.separators import CausalSeparator


def separator_of(model: str) -> tuple[CausalSeparator, str]:
    """The separator and what its weights are: random ones cost the same."""
    try:
        return CausalSeparator(load_model(model)[0]), model
    except CatalogueError:
        return CausalSeparator(CausalBSRoformer(CausalConfig())), "random weights"


def time_hops(separator: CausalSeparator, hops: int, paced: bool) -> NDArray[np.float64]:
    """Seconds of every hop."""
    hop_s = separator.hop_frames / separator.sample_rate_hz
    audio = 0.1 * np.random.default_rng(0).standard_normal((100, 2, separator.hop_frames)).astype(np.float32)
    stems = np.empty((len(separator.stem_names), 2, separator.hop_frames), dtype=np.float32)
    seconds = np.empty(hops)
    origin = time.perf_counter()
    for hop in range(hops):
        if paced:
            time.sleep(max(0.0, origin + hop * hop_s - time.perf_counter()))
        start = time.perf_counter()
        separator.separate(audio[hop % 100], stems)
        seconds[hop] = time.perf_counter() - start
    return seconds


def summary(seconds: NDArray[np.float64], hop_s: float) -> dict[str, float]:
    ms = {f"p{q:g}": float(np.percentile(seconds, q) * 1e3) for q in (50, 99, 99.9)}
    ms["max"] = float(seconds.max() * 1e3)
    figures = {f"{name}_ms": value for name, value in ms.items()}
    return figures | {f"load_{name}": value / (hop_s * 1e3) for name, value in ms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin", help="model id or path (default: %(default)s)")
    parser.add_argument("--hops", type=int, default=3000, help="hops to time (default: %(default)s)")
    parser.add_argument("--paced", action="store_true", help="one hop every hop duration, as live")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    separator, weights = separator_of(options.model)
    start = time.perf_counter()
    separator.warm_up()
    warm_up_s = time.perf_counter() - start
    seconds = time_hops(separator, options.hops, options.paced)
    hop_s = separator.hop_frames / separator.sample_rate_hz
    figures = {"weights": weights, "hops": options.hops, "paced": options.paced, "hop_ms": hop_s * 1e3}
    figures |= {"warm_up_s": warm_up_s} | summary(seconds, hop_s)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:12} {value:.3f}" if isinstance(value, float) else f"{name:12} {value}")


if __name__ == "__main__":
    main()
