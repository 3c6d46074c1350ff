"""The callback and the built-in profiles, as `stembridge bench` shows them: rows of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from host.bench_rows import Figures, Row
from host.errors import one_line
from host.hop_times import hop_step, resident_mb, runs_in, summary, timed
from model.profiles import DEFAULT_PROFILE
from streaming.separator import Separator

if TYPE_CHECKING:
    from model.causal import CausalBSRoformer
    from model.separators import CausalSeparator

BLOCK_FRAMES, STEMS = 128, 4
BLOCKS_PER_SECOND = 10_000
GPU_STREAMS = 1000
PEER_CHANNELS = 2


def callback_rows(seconds: float) -> Iterator[Row]:
    """The callback, what a call of its length costs here anyway, and a step of the worker."""
    from host.callback_times import HOP, RATE_HZ, SETTLING_BLOCKS, time_blocks  # compiles on its first run

    took, _late = time_blocks(STEMS, BLOCK_FRAMES, SETTLING_BLOCKS + round(seconds * BLOCKS_PER_SECOND))
    group, block_s = f"callback, {BLOCK_FRAMES} frames, {STEMS} stems", BLOCK_FRAMES / RATE_HZ
    yield Row(group, "stembridge", summary(took["block"] / 1e6, block_s))
    yield Row(group, "arithmetic as long", summary(took["arithmetic"] / 1e6, block_s))
    yield Row(group, "a call that does nothing", summary(took["nothing"] / 1e6, block_s))
    yield Row("engine per hop, no model", "stembridge", summary(took["hop"] / 1e6, HOP / RATE_HZ))


def builtin_rows(name: str, seconds: float) -> Iterator[Row]:
    """A profile's hops on one core, back to back and one every hop duration; HS-TasNet beside the default."""
    group = f"built-in {name}, one core"
    network = _network(name)
    with one_thread(), _warm(network, "cpu") as separator:
        figures = separator_figures(separator, seconds, paced=False)
        yield Row(group, "stembridge", figures | _roofline(network, separator, figures["p50_ms"]))
        if name == DEFAULT_PROFILE:
            yield hs_tasnet_row(group, seconds)
        yield Row(f"{group}, paced", "stembridge", separator_figures(separator, seconds, paced=True))


@contextmanager
def _warm(network: CausalBSRoformer, device: str, streams: int = 1) -> Iterator[CausalSeparator]:
    from model.separators import CausalSeparator

    separator = CausalSeparator(network, device, streams=streams)
    with closing(separator):
        separator.warm_up()
        yield separator


def _network(name: str) -> CausalBSRoformer:
    from model.causal import CausalBSRoformer
    from model.checkpoint import load_model

    network = load_model(name)[0]
    assert isinstance(network, CausalBSRoformer)
    return network


def _roofline(network: CausalBSRoformer, separator: CausalSeparator, p50_ms: float) -> Figures:
    """Work of a hop as the plain stream does it; its bytes are weights, as small as they are
    kept, and everything carried."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from host.roofline import beside_roofline, peak
    from model.causal_stream import CausalStream
    from model.precision import as_small_as_exact

    stream, streams = CausalStream(network), separator.streams
    hop = torch.zeros(PEER_CHANNELS, separator.hop_frames, device=separator.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        stream.process(hop)
    flops = streams * counter.get_total_flops()
    read = sum(as_small_as_exact(weight).nbytes for weight in network.parameters())
    read += streams * sum(tensor.nbytes for tensor in stream.carried())
    best = peak(separator.device, torch.float32)
    return {"gflop": flops / 1e9} | beside_roofline(best, flops, read, p50_ms)


def separator_figures(separator: Separator, seconds: float, paced: bool) -> Figures:
    """`summary` of hops for about so long, and what memory grew meanwhile. Threads: that of `warm_up`."""
    hop_s = separator.hop_frames / separator.sample_rate_hz
    step = hop_step(separator)
    runs = runs_in(step, seconds)
    if paced:
        runs = min(runs, max(1, round(seconds / hop_s)))
    before = resident_mb()
    took = timed(step, runs, hop_s if paced else 0.0)
    return summary(took, hop_s) | {"hops": runs, "growth_mb": resident_mb() - before}


def hs_tasnet_row(group: str, seconds: float) -> Row:
    """Its own streaming function, random weights, one hop at a time; why not, where it is not here."""
    from host.peers import HS_TASNET, HS_TASNET_VERSION, hs_tasnet

    name = f"{HS_TASNET} {HS_TASNET_VERSION}"
    try:
        peer = hs_tasnet()
    except RuntimeError as error:
        return Row(group, name, trouble=one_line(error))
    hop_frames, rate_hz = peer.overlap_len, peer.sample_rate
    step = _peer_step(peer.init_stateful_transform_fn(), hop_frames)
    took = timed(step, runs_in(step, seconds))
    return Row(group, name, summary(took, hop_frames / rate_hz) | {"hops": len(took)})


def _peer_step(separate: Callable[[NDArray[np.float32]], object], hop_frames: int) -> Callable[[int], None]:
    noise = 0.1 * np.random.default_rng(0).standard_normal((50, PEER_CHANNELS, hop_frames), np.float32)

    def step(run: int) -> None:
        separate(noise[run % 50])

    return step


def stream_rows(seconds: float) -> Iterator[Row]:
    """The default profile on the GPU: one stream, and many that advance together."""
    with one_thread():
        for streams in (1, GPU_STREAMS):
            group = f"built-in {DEFAULT_PROFILE} on the GPU, streams: {streams}"
            network = _network(DEFAULT_PROFILE)
            with _warm(network, "cuda", streams) as separator:
                figures = separator_figures(separator, seconds, paced=False)
                figures |= _roofline(network, separator, figures["p50_ms"])
            yield Row(group, "stembridge", figures)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch's number of threads as it was, afterwards: separators for one core change it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
