"""Ways to run a published network's layers on a GPU: python -m benchmarks.gpu_paths [--shape NAME] [--json].

First the parts of a layer alone, each captured in a graph and timed by events: products, attention by torch's
kernels, own kernels in several block sizes. Then whole live hops of the same weights by each way, own kernels
with the blocks of attention and GELU that were fastest, as `stembridge bench --part windows` measures them.
`--profile FOLDER` writes what each way's kernels take.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_tiles import (
    ATTENTION_CHOICES,
    ATTENTION_TILES,
    AXES,
    BANDS,
    GELU_CHOICES,
    GELU_TILES,
    NORM_CHOICES,
    TIME,
    Tiles,
)
from host.bench_rows import Row, as_table, in_order
from host.errors import guarded, one_line
from host.hop_times import hop_step
from host.machine import machine
from host.outputs import writable_folder, write_text
from host.window_times import SHAPES, Shape, live_figures, random_network
from model.devices import usable
from model.precision import settle_arithmetic
from model.regions import use_plain_layers
from model.roformer import Roformer
from model.training.arguments import tell
from model.windowed import WindowedSeparator

Work = Callable[[], object]
RUNS_CAPTURED, REPLAYS, PROFILED_HOPS = 20, 12, 5
TORCH_ATTENTION = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
)

Part = tuple[str, Tiles | None, Work]
"""What is computed, in which blocks (None: torch's choice), and a run of it."""


def parts(shape: Shape, device: torch.device) -> Iterator[Part]:
    """Of a layer of this shape, on noise, in float16."""
    from benchmarks.gpu_kernels import attend, linear_gelu, norm  # needs Triton, which comes with CUDA

    config = shape.config
    frames, bands = shape.framing.window_frames // config.stft_hop_frames + 1, len(config.band_bins)
    inner, wide = config.heads * config.dim_head, 4 * config.dim
    with_gates = -(-(3 * inner + config.heads) // 8) * 8
    values = partial(torch.randn, device=device, dtype=torch.float16)
    x, y = values(1, frames, bands, config.dim), values(1, frames, bands, config.dim)
    for name, rows, columns in (
        ("queries, keys, values", config.dim, 3 * inner),
        ("the same with gates", config.dim, with_gates),
        ("gates", config.dim, config.heads),
        ("out", inner, config.dim),
        ("widen", config.dim, wide),
        ("narrow", wide, config.dim),
    ):
        given, linear = values(1, frames, bands, rows), nn.Linear(rows, columns).to(device, torch.float16)
        yield f"product: {name}", None, partial(linear, given)
    widen = nn.Linear(config.dim, wide).to(device, torch.float16)
    yield "product: widen, then GELU", None, lambda: F.gelu(widen(x))
    yield from (("widen and GELU", tiles, partial(linear_gelu, x, widen, tiles)) for tiles in GELU_CHOICES)
    exact, gamma = x.float(), torch.rand(config.dim, device=device)
    for tiles in NORM_CHOICES:
        yield "sum and norm", tiles, partial(norm, exact, gamma, torch.float16, y=y, tiles=tiles)
    qkvg = values(1, frames, bands, with_gates)
    for axis, (rows, positions) in {TIME: (bands, frames), BANDS: (frames, bands)}.items():
        turns = torch.rand(positions, config.dim_head // 2, 2, device=device)
        q, k, v = (values(rows, positions, config.heads, config.dim_head).transpose(1, 2) for _ in range(3))
        for backend in TORCH_ATTENTION:
            yield f"attention over {AXES[axis]}, {backend.name}", None, partial(_torch, backend, q, k, v)
        for tiles in ATTENTION_CHOICES[axis]:
            work = partial(attend, qkvg, turns, config.heads, axis, (0, positions), tiles)
            yield f"turns, attention over {AXES[axis]}, gates", tiles, work


def _torch(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel([backend]):
        return F.scaled_dot_product_attention(q, k, v)


def microseconds(work: Work) -> float:
    """Of one run, the median of replays that hold many, so that launches cost nothing."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        work()
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(RUNS_CAPTURED):
                work()
    graph.replay()
    return float(np.median([_replay_ms(graph) for _ in range(REPLAYS)])) / RUNS_CAPTURED * 1e3


def _replay_ms(graph: torch.cuda.CUDAGraph) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def part_times(shape: Shape, device: torch.device) -> list[dict[str, object]]:
    """Of every part its name, `of` what tiles, and microseconds, or why it did not run."""
    found: list[dict[str, object]] = []
    with torch.inference_mode():
        for name, tiles, work in parts(shape, device):
            found.append({"part": name, "of": tiles})
            try:
                found[-1]["us"] = microseconds(work)
            except Exception as error:  # of a compiler's making too: the other parts are still worth knowing
                found[-1]["trouble"] = one_line(error)[:160]
            tell(str(told(found[-1])))
    return found


def told(part: dict[str, object]) -> dict[str, object]:
    """A part's time with its tiles in words."""
    return {"tiles": str(part["of"] or "")} | {key: part[key] for key in part if key != "of"}


def fastest(times: list[dict[str, object]], part: str, otherwise: Tiles) -> Tiles:
    ran = [each for each in times if each["part"] == part and "us" in each]
    return min(ran, key=lambda each: each["us"])["of"] if ran else otherwise


def ways(times: list[dict[str, object]]) -> dict[str, Callable[[Roformer], None]]:
    """What changes a network into each, own kernels in the block sizes that were fastest."""
    attention = {
        axis: fastest(times, f"turns, attention over {name}, gates", ATTENTION_TILES[axis])
        for axis, name in AXES.items()
    }
    ours = partial(_kernels, attention_tiles=attention)
    return {
        "compiled regions (shipped)": lambda network: None,
        "own kernels": partial(ours, gelu_tiles=fastest(times, "widen and GELU", GELU_TILES)),
        "own kernels, GELU by torch": partial(ours, gelu_tiles=None),
        "plain layers": use_plain_layers,
    }


def _kernels(network: Roformer, **how: object) -> None:
    from benchmarks.gpu_kernels import use_kernels

    use_plain_layers(network)
    use_kernels(network, **how)


def hop_row(
    shape: Shape, device: torch.device, name: str, change: Callable[[Roformer], None], seconds: float
) -> Row:
    """A way's hops; what does not work says why."""
    try:
        exact = random_network(shape, device)
        return Row(shape.name, name, live_figures(shape, device, exact, seconds, change))
    except Exception as error:  # as above
        return Row(shape.name, name, trouble=one_line(error)[:200])


def profile(shape: Shape, device: torch.device, change: Callable[[Roformer], None]) -> str:
    """Microseconds per hop of every kernel of a captured hop, the longest first."""
    network = random_network(shape, device)
    separator = WindowedSeparator(network, shape.framing, str(device), streams=shape.streams)
    change(network)
    separator.warm_up()
    step = hop_step(separator)
    step(0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        for run in range(PROFILED_HOPS):
            step(run)
    separator.close()
    kernels = [(each.self_device_time_total, each.count, each.key) for each in seen.key_averages()]
    lines = [
        f"{total / PROFILED_HOPS:10.1f} us {count / PROFILED_HOPS:6.1f} x {name}"
        for total, count, name in sorted(kernels, reverse=True)
    ]
    return "\n".join(lines) + "\n"


@guarded
def main() -> None:
    shapes = {shape.name: shape for shape in SHAPES["cuda"]}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=shapes, default=next(iter(shapes)), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each way (default: %(default)s)")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="write every way's kernel times there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    device, shape = usable("cuda"), shapes[options.shape]
    if options.profile:
        writable_folder(options.profile)
    settle_arithmetic()
    times = part_times(shape, device)
    todo = ways(times)
    rows = in_order([hop_row(shape, device, name, change, options.seconds) for name, change in todo.items()])
    for name, change in todo.items() if options.profile else ():
        write_text(options.profile / f"{name.split(' (')[0]}.txt", profile(shape, device, change))
    if options.json:
        ways_told = [{"name": row.name, "trouble": row.trouble, **row.figures} for row in rows]
        print(json.dumps({"machine": machine(), "parts": [told(each) for each in times], "ways": ways_told}))
        return
    for each in map(told, times):
        print(f"{each.get('us', float('nan')):9.1f} us  {each['part']}  {each['tiles']}")
    Console(width=200).print(as_table(rows))


if __name__ == "__main__":
    main()
