"""Published shapes on sliding windows of live sound: ours and the package BS-RoFormer on the same windows."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from host.bench_rows import Figures, Row
from host.errors import one_line
from host.hop_times import hop_step, in_time, resident_mb, runs_in, summary, timed, waits
from host.peers import ROFORMER, ROFORMER_VERSION, published_roformer, roformer_run
from host.roofline import peak, weight_bytes
from model.compromise import Compromise
from model.config import RoformerConfig
from model.devices import usable
from model.flops import window_flops
from model.precision import dtype_of, lower_products, settle_arithmetic
from model.regions import use_plain_layers
from model.roformer import Roformer, build
from model.window_framing import PROFILES, WindowFraming
from model.windowed import WindowedSeparator

LONGEST_COMPILE_S = 400
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
    """The package with the same weights on the same windows, in each of its ways to run. As `our_rows`."""
    exact = random_network(shape, device)
    for name, measure in WAYS.items():
        if device.type == "cpu" and measure is _compiled:
            continue  # needs a compiler, and minutes
        yield _row(shape, device, f"{PEER}, {name}", _silently, measure, exact, seconds)


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
    """Of the live separator, its network changed before it warms up."""
    gc.collect()  # what rows before this one left in cycles would be freed, and slow a hop, meanwhile
    lowered = copy.deepcopy(exact)
    separator = WindowedSeparator(lowered, shape.framing, str(device), graphs=graphs, streams=shape.streams)
    change(lowered)
    with closing(separator), warnings.catch_warnings():
        warnings.simplefilter("error", Compromise)  # of another way than the one that the row is named after
        separator.warm_up()
        figures = _hop_figures(separator, device, seconds)
    figures |= _roofline(shape, lowered, device, figures["p50_ms"])
    return figures | _exactness(exact, lowered, _window(shape, device))


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
    least_ms = 1e3 * best.least_s(flops, weight_bytes(network))
    return {
        "gflop": flops / 1e9,
        "tflop_per_s": best.flops_per_s / 1e12,
        "gb_per_s": best.bytes_per_s / 1e9,
        "roofline_ms": least_ms,
        "times_roofline": p50_ms / least_ms,
    }


def _window(shape: Shape, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    window = 0.1 * torch.randn(1, shape.config.channels, shape.framing.window_frames, generator=generator)
    return window.to(device)


@torch.inference_mode()
def _exactness(exact: Roformer, lowered: Roformer, audio: Tensor) -> Figures:
    """Masks of identical spectra, and what comes out, in float16 (ours, where it is that) and in bfloat16,
    against float32."""
    if _dtype(lowered) == torch.float32:
        lowered = _in(torch.float16, exact)
    spectrum = exact.stft(audio)
    ours, rough, expected = (
        (network.mask(spectrum), network(audio)) for network in (lowered, _in(torch.bfloat16, exact), exact)
    )
    coarse = {f"bf16_{name}": value for name, value in _errors(rough, expected).items()}
    return _errors(ours, expected) | coarse


def _in(dtype: torch.dtype, exact: Roformer) -> Roformer:
    network = copy.deepcopy(exact)
    lower_products(network, dtype)
    return network


def _errors(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> Figures:
    """Of masks and of what comes out."""
    return mask_error(found[0], exact[0]) | {"output_db": decibels(found[1], exact[1])}


def _dtype(network: nn.Module) -> torch.dtype:
    return next(module for module in network.modules() if isinstance(module, nn.Linear)).weight.dtype


def mask_error(found: Tensor, exact: Tensor) -> Figures:
    """Rms of the difference, and the same over the rms of the exact mask."""
    error, level = (float(x.abs().square().mean().sqrt()) for x in (found - exact, exact))
    return {"mask_error_rms": error, "mask_error_relative": error / level}


def decibels(found: Tensor, exact: Tensor) -> float:
    """Signal to error."""
    return float(10 * torch.log10(exact.square().sum() / (found - exact).square().sum()))


def _peer(shape: Shape, device: torch.device, exact: Roformer) -> nn.Module:
    """With our weights."""
    peer = published_roformer(shape.config)
    peer.load_state_dict(exact.state_dict(), strict=True)
    return peer.eval().to(device).requires_grad_(False)


def _exactly(shape: Shape, device: torch.device, exact: Roformer, seconds: float) -> Figures:
    return _figures(shape, _peer(shape, device, exact), device, torch.float32, seconds)


def _lowered(shape: Shape, device: torch.device, exact: Roformer, seconds: float) -> Figures:
    peer = _peer(shape, device, exact)
    return _figures(shape, peer, device, torch.float16, seconds) | _peer_error(shape, peer, device)


def _compiled(shape: Shape, device: torch.device, exact: Roformer, seconds: float) -> Figures:
    return in_time(LONGEST_COMPILE_S + seconds, _compile_here, shape, device, seconds)


def _compile_here(shape: Shape, device: torch.device, seconds: float) -> Figures:
    warnings.simplefilter("ignore")
    settle_arithmetic()  # as in the process of all other rows
    peer = torch.compile(_peer(shape, device, build(shape.config)))
    return _figures(shape, peer, device, torch.float16, seconds)


WAYS = {"FP32 eager": _exactly, "FP16 autocast": _lowered, "FP16 autocast, torch.compile": _compiled}


def _figures(
    shape: Shape, peer: Callable[[Tensor], Tensor], device: torch.device, dtype: torch.dtype, seconds: float
) -> Figures:
    step = _peer_step(peer, _window(shape, device), dtype)
    took = timed(step, runs_in(step, seconds))
    return summary(took, shape.framing.hop_frames / shape.config.sample_rate_hz) | {"hops": len(took)}


def _lower(device: torch.device, dtype: torch.dtype) -> Any:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def _peer_step(peer: Callable[[Tensor], Tensor], window: Tensor, dtype: torch.dtype) -> Callable[[int], None]:
    """From the host's memory to the host's memory, as ours."""
    pinned = window.is_cuda
    source = window.cpu().pin_memory() if pinned else window
    sinks: list[NDArray[np.float32]] = []

    def step(_run: int) -> None:
        with torch.inference_mode(), _lower(window.device, dtype):
            sinks[:] = [peer(source.to(window.device, non_blocking=True)).float().cpu().numpy()]

    return step


def _peer_error(shape: Shape, peer: nn.Module, device: torch.device) -> Figures:
    """Of its own lower precision against its own float32."""
    audio = _window(shape, device)
    with torch.inference_mode():
        exact = roformer_run(peer, shape.config, audio)
        with _lower(device, torch.float16):
            masks, sound = roformer_run(peer, shape.config, audio)
    return _errors((masks, sound.float()), exact)
