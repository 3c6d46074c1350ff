"""The callback and the built-in profiles, as `stembridge bench` shows them: rows of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from host.bench_rows import Figures, Row
from host.errors import one_line
from host.hop_times import hop_step, resident_mb, runs_in, summary, timed
from host.models import open_separator
from model.catalogue import builtin_models
from model.profiles import DEFAULT_PROFILE
from streaming.separator import Separator

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
    with one_thread():
        separator = open_separator(str(builtin_models()[name]), 44100)
        separator.warm_up()
        yield Row(group, "stembridge", separator_figures(separator, seconds, paced=False))
        if name == DEFAULT_PROFILE:
            yield hs_tasnet_row(group, seconds)
        yield Row(f"{group}, paced", "stembridge", separator_figures(separator, seconds, paced=True))
        separator.close()


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
    from model.causal import CausalBSRoformer
    from model.checkpoint import load_model
    from model.separators import CausalSeparator

    with one_thread():
        for streams in (1, GPU_STREAMS):
            network = load_model(DEFAULT_PROFILE)[0]
            assert isinstance(network, CausalBSRoformer)
            separator = CausalSeparator(network, "cuda", streams=streams)
            separator.warm_up()
            group = f"built-in {DEFAULT_PROFILE} on the GPU, streams: {streams}"
            yield Row(group, "stembridge", separator_figures(separator, seconds, paced=False))
            separator.close()


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
