"""One hop of the causal model as compiled code: what runs live on a CPU.

The same function of the same parameters as `CausalStream.process`, on the stream's own tensors. All that a
hop reads and writes lies on large pages: looking up a thousand small ones took as long as the arithmetic.
Between the Fourier transforms there is one call: what Python touches on its way is cold after every pause.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.causal_layers import CausalBlock, LayerCache
from model.causal_state import CausalState
from model.causal_stream import CausalStream
from model.kernels import add_overlap, analyse, separate, together
from model.packed import (
    Block,
    Floats,
    Memory,
    Network,
    bands_of,
    masking_of,
    projection_of,
    rows_of,
    scratch_for,
    widening_of,
)
from model.pages import LargePages


def packed_block(block: CausalBlock, cache: LayerCache, pages: LargePages) -> Block:
    return Block(
        in_time=pages.copies(projection_of(block.time_attention)),
        time_feed_forward=pages.copies(widening_of(block.time_feed_forward)),
        among_bands=pages.copies(projection_of(block.band_attention)),
        band_rotations=pages.copy(rows_of(block.band_attention.rotations)),
        band_feed_forward=pages.copies(widening_of(block.band_feed_forward)),
        keys=cache.keys.numpy(),
        values=cache.values.numpy(),
    )


def packed_network(stream: CausalStream, pages: LargePages) -> Network:
    network, config = stream.model, stream.model.config
    offset = network.embedded(torch.zeros(config.dim), config.look_ahead_frames)
    return Network(
        bands=pages.copies(bands_of(network.features, offset)),
        blocks=tuple(
            packed_block(block, cache, pages)  # type: ignore[arg-type]
            for block, cache in zip(network.blocks, stream.state.caches, strict=True)
        ),
        masking=pages.copies(masking_of(network.masks)),
        rotations=rows_of(network.rotations),
        power=np.float32(network.causal_stft.power),
        past_frames=config.past_frames,
        look_ahead_frames=config.look_ahead_frames,
    )


def memory_of(state: CausalState) -> Memory:
    """Of the state of one signal: its own arrays."""
    config = state.config
    none = np.zeros((0, len(config.bands), config.dim), np.float32)
    nothing = np.zeros((config.channels, 0, config.n_fft // 2 + 1), np.complex64)
    features, spectra = [ring[0].numpy() for ring in state.delays] or (none, nothing)
    position, slots, begins = state.position.numpy(), state.slot_positions.numpy(), state.begins.numpy()
    return Memory(position, slots, begins.reshape(1), features, spectra)


class CompiledHop:
    """`CausalStream.process` for exactly one hop of one stream on a CPU.

    Audio [channels, hop_frames] in, stems [stems, channels, hop_frames] out; writes to the stream's own
    tensors, so that its `reset` is this one's too. Weights are a copy: later training is not seen.
    Threads: as the stream.
    """

    def __init__(self, stream: CausalStream) -> None:
        config, stft, pages = stream.model.config, stream.model.causal_stft, LargePages()
        for tensor in stream.carried():
            tensor.set_(torch.from_numpy(pages.copy(tensor.numpy())))  # type: ignore[call-overload]
        self.config = config
        self.network, self.memory = packed_network(stream, pages), memory_of(stream.state)
        self.analysis, self.synthesis = (
            pages.copy(rows_of(window)) for window in (stft.analysis, stft.synthesis)
        )
        self.history, self.tail = (tensor.numpy() for tensor in stream.carried()[:2])
        columns, ring = self.network.blocks[0].in_time.bias.size, self.memory.slot_positions.size
        scratch = scratch_for(config, columns, ring, pages.zeros)
        self.arrays = together(self.network, self.memory, scratch)
        bins = config.n_fft // 2 + 1
        self.segment = pages.zeros((config.channels, config.n_fft))
        self.newest = pages.zeros((config.channels, bins), np.complex64)
        self.stems = pages.zeros((config.stems, config.channels, bins), np.complex64)
        self.segments = pages.zeros((config.stems, config.channels, config.n_fft))

    def __call__(self, audio: Tensor) -> Tensor:
        config = self.config
        stems = torch.empty(config.stems, config.channels, config.hop_frames)
        self.run(audio.contiguous().numpy(), stems.numpy())
        return stems

    def run(self, mixture: Floats, stems_out: Floats) -> None:
        """The same on arrays: writes `stems_out`."""
        analyse(self.history, mixture, self.analysis, self.segment)
        np.fft.rfft(self.segment, out=self.newest)  # which keeps its plans, as torch does not
        separate(self.newest, self.arrays, self.stems)
        np.fft.irfft(self.stems, n=self.config.n_fft, out=self.segments)
        add_overlap(self.segments, self.synthesis, self.tail, stems_out)
