"""One hop of the causal model as compiled code: what runs live on a CPU.

The same function of the same parameters as `CausalStream.process`, on the stream's own tensors. All that a
hop reads and writes lies on large pages: looking up a thousand small ones took as long as the arithmetic.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.causal_layers import CausalBlock, LayerCache
from model.causal_stream import CausalStream
from model.kernels import add_overlap, advance, analyse, claim, hear, look_back, separate, take_in
from model.packed import (
    Block,
    Complexes,
    Floats,
    Memory,
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


class CompiledHop:
    """`CausalStream.process` for exactly one hop of one stream on a CPU.

    Audio [channels, hop_frames] in, stems [stems, channels, hop_frames] out; writes to the stream's own
    tensors, so that its `reset` is this one's too. Weights are a copy: later training is not seen.
    Threads: as the stream.
    """

    def __init__(self, stream: CausalStream) -> None:
        network, state, pages = stream.model, stream.state, LargePages()
        config, stft = network.config, network.causal_stft
        for tensor in stream.carried():
            tensor.set_(torch.from_numpy(pages.copy(tensor.numpy())))  # type: ignore[call-overload]
        self.config, self.power = config, np.float32(stft.power)
        offset = network.embedded(torch.zeros(config.dim), config.look_ahead_frames)
        self.bands = pages.copies(bands_of(network.features, offset))
        self.blocks = [
            packed_block(block, cache, pages)  # type: ignore[arg-type]
            for block, cache in zip(network.blocks, state.caches, strict=True)
        ]
        self.masking = pages.copies(masking_of(network.masks))
        self.rotations = rows_of(network.rotations)
        self.analysis, self.synthesis = (
            pages.copy(rows_of(window)) for window in (stft.analysis, stft.synthesis)
        )
        self.history, self.tail = (tensor.numpy() for tensor in stream.carried()[:2])
        positions = (state.position, state.slot_positions, state.begins.view(1))
        self.memory = Memory(*(tensor.numpy() for tensor in positions))
        self.delays = [ring[0].numpy() for ring in state.delays]
        self._make_room(pages)

    def _make_room(self, pages: LargePages) -> None:
        config, ring, channels = self.config, self.memory.slot_positions.shape, self.config.channels
        bins = config.n_fft // 2 + 1
        self.scratch = scratch_for(config, self.blocks[0].in_time.bias.size, ring[0], pages.zeros)
        self.x, self.first_bias, self.later_bias = map(
            pages.zeros, ((len(config.bands), config.dim), ring, ring)
        )
        widest = channels * max(config.bands) + 4
        self.heard, self.hidden = map(pages.zeros, ((widest,), (config.stems * config.mask_hidden,)))
        self.masks, self.sums = map(pages.zeros, ((config.stems, channels, bins), (channels * bins,)))
        self.segment = pages.zeros((channels, config.n_fft))
        self.newest, self.asked = (pages.zeros((channels, bins), np.complex64) for _ in range(2))
        self.stems = pages.zeros((config.stems, channels, bins), np.complex64)
        self.segments = pages.zeros((config.stems, channels, config.n_fft))

    def __call__(self, audio: Tensor) -> Tensor:
        config = self.config
        stems = torch.empty(config.stems, config.channels, config.hop_frames)
        self.run(audio.contiguous().numpy(), stems.numpy())
        return stems

    def run(self, mixture: Floats, stems_out: Floats) -> None:
        """The same on arrays: writes `stems_out`."""
        analyse(self.history, mixture, self.analysis, self.segment)
        np.fft.rfft(self.segment, out=self.newest)  # which keeps its plans, as torch does not
        spectrum = self._through_blocks()
        separate(
            self.x,
            self.bands,
            self.masking,
            self.scratch.normed,
            self.hidden,
            self.masks,
            self.sums,
            spectrum.view(np.float32),
            self.stems.view(np.float32),
        )
        np.fft.irfft(self.stems, n=self.config.n_fft, out=self.segments)
        add_overlap(self.segments, self.synthesis, self.tail, stems_out)

    def _through_blocks(self) -> Complexes:
        """Features of the newest spectrum into `x` and through all layers; their frame's spectrum."""
        config, scratch, x, ahead = self.config, self.scratch, self.x, self.config.look_ahead_frames
        hear(self.newest, self.bands, self.power, self.heard, x)
        number = claim(self.memory, config.past_frames, ahead, self.first_bias, self.later_bias)
        slot = number % self.memory.slot_positions.size
        turn = self.rotations[(number - ahead) % config.rotary_period]
        spectrum, blocks = self.newest, self.blocks
        if ahead:
            take_in(x, blocks[0], self.rotations[number % config.rotary_period], slot, scratch)
            spectrum = self._delayed(number)
            look_back(x, blocks[0], turn, self.first_bias, scratch)
            blocks = blocks[1:]
        for block in blocks:
            advance(x, block, turn, slot, self.later_bias, scratch)
        return spectrum

    def _delayed(self, number: int) -> Complexes:
        """Keep `x` and the newest spectrum; `x` becomes what it was a look-ahead ago, and so does what is
        returned."""
        features, spectra = self.delays
        new, old = (at % len(features) for at in (number, number - self.config.look_ahead_frames))
        features[new], spectra[:, new] = self.x, self.newest
        self.x[:], self.asked[:] = features[old], spectra[:, old]
        return self.asked
