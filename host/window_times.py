"""Published shapes on sliding windows of live sound: ours and the package BS-RoFormer on the same windows."""

from __future__ import annotations

import copy
import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from host.bench_rows import Figures, Row
from host.errors import one_line
from host.hop_times import (
    Step,
    hop_step,
    in_time,
    resident_mb,
    runs_in,
    summary,
    timed,
    timed_in_turns,
    waits,
)
from host.peers import ROFORMER, ROFORMER_VERSION, published_roformer, roformer_run
from host.roofline import beside_roofline, peak, weight_bytes
from host.window_errors import errors, live_errors, lowered, precision_errors
from model.compromise import Compromise
from model.config import RoformerConfig
from model.devices import usable
from model.flops import window_flops
from model.precision import dtype_of, settle_arithmetic
from model.regions import use_plain_layers
from model.roformer import Roformer, build
from model.window_framing import PROFILES, WindowFraming
from model.windowed import WindowedSeparator

LONGEST_COMPILE_S = 900
SHAPES_OF_THE_PEER = 256
"""That its functions may be compiled for: every band has its own, and past 8 torch would compile no more."""
PEER = f"{ROFORMER} {ROFORMER_VERSION}"
GPU = PROFILES["gpu"]
LONG = replace(GPU, window_frames=352_800)


@dataclass(frozen=True)
class Shape:
    """A network's configuration and the windows it is given."""

    name: str
    config: RoformerConfig
    framing: WindowFraming
    streams: int = 1

    @property
    def alone(self) -> bool:
        """Whether it is one stream, as others can run it too."""
        return self.streams == 1


BS = RoformerConfig(384, 12, stft_hop_frames=441)
MEL = RoformerConfig(384, 6, architecture="mel", stft_hop_frames=441)
SMALL = RoformerConfig(32, 2, heads=2, stft_hop_frames=441)
SHAPES = {
    "cpu": [Shape("BS 32/2, 0.5 s", SMALL, WindowFraming(22_050, 4410, 2205, 441))],
    "cuda": [
        Shape("BS 384/12, 2 s", BS, GPU),
        Shape("Mel 384/6, 2 s", MEL, GPU),
        Shape("BS 384/12, 8 s", BS, LONG),
        Shape("BS 384/12, 2 s, 8 streams", BS, GPU, streams=8),
    ],
}
"""A CPU takes a small one: what is compared is the same, and it ends in a minute."""


def our_rows(shape: Shape, device: torch.device, seconds: float) -> Iterator[Row]:
    """The live separator on a shape; on a GPU also without what makes it fast. Each for about `seconds`.

    Errors: DeviceError. Threads: one; changes torch's settings of the one that calls.
    """
    exact = random_network(shape, device)
    yield _row(shape, device, "stembridge", live_figures, exact, seconds)
    if device.type == "cuda" and shape.alone:
        yield _row(
            shape, device, "stembridge, layers uncompiled", live_figures, exact, seconds, use_plain_layers
        )
        yield _row(
            shape, device, "stembridge, graphs off", partial(live_figures, graphs=False), exact, seconds
        )


def peer_rows(shape: Shape, device: torch.device, seconds: float) -> Iterator[Row]:
    """The package with the same weights on the same windows, in each of its ways to run, in turns with ours
    but for what it compiles, in a process of its own. As `our_rows`."""
    exact = random_network(shape, device)
    with _live(shape, device, exact) as (separator, _):
        ours = hop_step(separator)
        for name, measure in WAYS.items():
            if device.type == "cpu" and measure is _compiled:
                continue  # needs a compiler, and minutes
            yield _row(shape, device, f"{PEER}, {name}", _silently, measure, exact, ours, seconds)


def random_network(shape: Shape, device: torch.device) -> Roformer:
    torch.manual_seed(0)
    return build(shape.config).eval().to(usable(str(device)))


def _row(
    shape: Shape, device: torch.device, name: str, measure: Callable[..., Figures], *arguments: object
) -> Row:
    """What was measured, or why not: one failure leaves the other rows."""
    row = Row(f"{shape.name}, {device.type}", name)
    try:
        return replace(row, figures=measure(shape, device, *arguments))
    except (RuntimeError, ImportError, Compromise) as error:  # of any library's making
        return replace(row, trouble=one_line(error)[:160])


def _silently(
    shape: Shape, device: torch.device, measure: Callable[..., Figures], *arguments: object
) -> Figures:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's, about its window and its attention
        return measure(shape, device, *arguments)


def live_figures(
    shape: Shape,
    device: torch.device,
    exact: Roformer,
    seconds: float,
    change: Callable[[Roformer], None] = lambda network: None,
    graphs: bool = True,
) -> Figures:
    """Of the live separator, its network changed before it warms up, and its errors against `exact`. A CPU's
    runs in float32: those of float16 are of a copy."""
    audio = noise_window(shape, device)
    with _live(shape, device, exact, change, graphs) as (separator, network):
        figures = _hop_figures(separator, device, seconds)
        figures |= live_errors(separator, exact, shape.framing, audio)
    figures |= _roofline(shape, network, device, figures["p50_ms"])
    half = network if device.type == "cuda" else lowered(exact)
    return figures | precision_errors(exact, half, shape.framing, audio)


@contextmanager
def _live(
    shape: Shape,
    device: torch.device,
    exact: Roformer,
    change: Callable[[Roformer], None] = lambda network: None,
    graphs: bool = True,
) -> Iterator[tuple[WindowedSeparator, Roformer]]:
    """A warm separator with these weights, and its network."""
    gc.collect()  # what rows before this one left in cycles would be freed, and slow a hop, meanwhile
    network = copy.deepcopy(exact)
    separator = WindowedSeparator(network, shape.framing, str(device), graphs=graphs, streams=shape.streams)
    change(network)
    with closing(separator):
        with warnings.catch_warnings():
            warnings.simplefilter("error", Compromise)  # of another way than the one that is asked for
            separator.warm_up()
        yield separator, network


def _hop_figures(separator: WindowedSeparator, device: torch.device, seconds: float) -> Figures:
    step = hop_step(separator)
    runs = runs_in(step, seconds)
    before, gpu_before = resident_mb(), _gpu_mb(device)
    with waits(torch.cuda.Stream) as waited:
        took = timed(step, runs)
    figures = summary(took, separator.hop_frames / separator.sample_rate_hz)
    figures |= {"hops": runs, "growth_mb": resident_mb() - before}
    if device.type == "cuda":
        figures["gpu_growth_mb"] = _gpu_mb(device) - gpu_before
    if len(waited) == runs:
        figures["host_ms"] = float(np.median(took - np.array(waited)) * 1e3)
    return figures


def _gpu_mb(device: torch.device) -> float:
    """What all processes hold of a GPU's memory, if it is one: graphs and libraries allocate past torch's own
    count."""
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / 1e6


def _roofline(shape: Shape, network: nn.Module, device: torch.device, p50_ms: float) -> Figures:
    best = peak(device, dtype_of("auto", device))
    flops = shape.streams * window_flops(shape.config, shape.framing)
    return {"gflop": flops / 1e9} | beside_roofline(best, flops, weight_bytes(network), p50_ms)


def noise_window(shape: Shape, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    window = 0.1 * torch.randn(1, shape.config.channels, shape.framing.window_frames, generator=generator)
    return window.to(device)


def peer_with(shape: Shape, device: torch.device, exact: Roformer) -> nn.Module:
    """With our weights."""
    peer = published_roformer(shape.config)
    peer.load_state_dict(exact.state_dict(), strict=True)
    return peer.eval().to(device).requires_grad_(False)


def _exactly(shape: Shape, device: torch.device, exact: Roformer, ours: Step, seconds: float) -> Figures:
    peer = peer_with(shape, device, exact)
    return _beside(shape, _peer_step(peer, noise_window(shape, device), torch.float32), ours, seconds)


def _autocast(shape: Shape, device: torch.device, exact: Roformer, ours: Step, seconds: float) -> Figures:
    peer = peer_with(shape, device, exact)
    step = _peer_step(peer, noise_window(shape, device), torch.float16)
    return _beside(shape, step, ours, seconds) | peer_errors(shape, peer, device)


def _compiled(shape: Shape, device: torch.device, _exact: Roformer, _ours: Step, seconds: float) -> Figures:
    return in_time(LONGEST_COMPILE_S + seconds, _compile_here, shape, device, seconds)


def _compile_here(shape: Shape, device: torch.device, seconds: float) -> Figures:
    import torch._dynamo

    warnings.simplefilter("ignore")
    settle_arithmetic()  # as in the process of all other rows
    torch._dynamo.config.recompile_limit = SHAPES_OF_THE_PEER
    peer = torch.compile(peer_with(shape, device, build(shape.config)))
    step = _peer_step(peer, noise_window(shape, device), torch.float16)
    figures = _summary(shape, timed(step, runs_in(step, seconds)))
    breaks: Counter[str] = torch._dynamo.utils.counters["graph_break"]
    return figures | {"graph_breaks": float(len(breaks))}


WAYS = {"FP32 eager": _exactly, "FP16 autocast": _autocast, "FP16 autocast, torch.compile": _compiled}


def _beside(shape: Shape, step: Step, ours: Step, seconds: float) -> Figures:
    """Of a peer's step, in turns with ours."""
    took, took_ours = timed_in_turns(step, ours, runs_in(step, seconds))
    return _summary(shape, took) | {"times_ours": float(np.median(took) / np.median(took_ours))}


def _summary(shape: Shape, took: NDArray[np.float64]) -> Figures:
    return summary(took, shape.framing.hop_frames / shape.config.sample_rate_hz) | {"hops": len(took)}


def _lower(device: torch.device, dtype: torch.dtype) -> Any:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def _peer_step(peer: Callable[[Tensor], Tensor], window: Tensor, dtype: torch.dtype) -> Step:
    """From the host's memory to the host's memory, as ours."""
    pinned = window.is_cuda
    source = window.cpu().pin_memory() if pinned else window
    sinks: list[NDArray[np.float32]] = []

    def step(_run: int) -> None:
        with torch.inference_mode(), _lower(window.device, dtype):
            sinks[:] = [peer(source.to(window.device, non_blocking=True)).float().cpu().numpy()]

    return step


def peer_errors(shape: Shape, peer: nn.Module, device: torch.device) -> Figures:
    """Of its own FP16 autocast against its own float32, as `precision_errors` has ours."""
    audio, part = noise_window(shape, device), slice(*shape.framing.contribution)
    with torch.inference_mode():
        exact, exact_sound = roformer_run(peer, shape.config, audio)
        with _lower(device, torch.float16):
            masks, sound = roformer_run(peer, shape.config, audio)
    return errors((masks, sound[..., part].float()), (exact, exact_sound[..., part]))
