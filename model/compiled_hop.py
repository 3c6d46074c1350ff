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
from model.kernels import (
    add_overlap,
    analyse,
    attend_among_bands,
    attend_in_time,
    claim,
    feed_forward,
    hear,
    judge,
    project,
    remember,
    separate,
)
from model.packed import (
    Complexes,
    Memory,
    bands_of,
    masking_of,
    projection_of,
    rows_of,
    scratch_for,
    widening_of,
)
from model.pages import LargePages


class CompiledBlock:
    """Weights of a `CausalBlock`, and the ring of its time attention."""

    def __init__(self, block: CausalBlock, cache: LayerCache, pages: LargePages) -> None:
        self.in_time = pages.copies(projection_of(block.time_attention))
        self.time_feed_forward = pages.copies(widening_of(block.time_feed_forward))
        self.among_bands = pages.copies(projection_of(block.band_attention))
        self.band_rotations = pages.copy(rows_of(block.band_attention.rotations))
        self.band_feed_forward = pages.copies(widening_of(block.band_feed_forward))
        self.keys, self.values = cache.keys.numpy(), cache.values.numpy()


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
            CompiledBlock(block, cache, pages)  # type: ignore[arg-type]
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
        self.scratch = pages.copies(scratch_for(config, self.blocks[0].in_time.bias.size, ring[0]))
        self.x, self.first_bias, self.later_bias = map(
            pages.zeros, ((len(config.bands), config.dim), ring, ring)
        )
        widest = channels * max(config.bands) + 4
        self.heard, self.hidden = map(pages.zeros, ((widest,), (config.stems * config.mask_hidden,)))
        self.masks, self.sums = map(pages.zeros, ((config.stems, channels, bins), (channels * bins,)))
        self.segment = torch.from_numpy(pages.zeros((channels, config.n_fft)))
        self.newest, self.asked, self.stems = (
            torch.from_numpy(pages.zeros((*rows, bins), np.complex64))
            for rows in ((channels,), (channels,), (config.stems, channels))
        )
        self.segments = torch.from_numpy(pages.zeros((config.stems, channels, config.n_fft)))

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Tensor:
        config = self.config
        analyse(self.history, audio.contiguous().numpy(), self.analysis, self.segment.numpy())
        torch.fft.rfft(self.segment, out=self.newest)
        spectrum = self._through_blocks(self.newest.numpy())
        judge(self.x, self.bands, self.masking, self.scratch.normed, self.hidden, self.masks, self.sums)
        separate(self.masks, spectrum.view(np.float32), self.stems.numpy().view(np.float32))
        torch.fft.irfft(self.stems, n=config.n_fft, out=self.segments)
        stems = torch.empty(config.stems, config.channels, config.hop_frames)
        add_overlap(self.segments.numpy(), self.synthesis, self.tail, stems.numpy())
        return stems

    def _through_blocks(self, spectrum: Complexes) -> Complexes:
        """Features of a spectrum [channels, bins] into `x` and through all layers; their frame's spectrum."""
        config, scratch, x, ahead = self.config, self.scratch, self.x, self.config.look_ahead_frames
        hear(spectrum, self.bands, self.power, self.heard, x)
        number = claim(self.memory, config.past_frames, ahead, self.first_bias, self.later_bias)
        slot = number % self.memory.slot_positions.size
        turns = [self.rotations[(number - late) % config.rotary_period] for late in (0, ahead)]
        bias = self.first_bias
        for block in self.blocks:
            project(x, block.in_time, scratch)
            remember(turns[0], block.keys, block.values, slot, scratch)
            if ahead and block is self.blocks[0]:
                spectrum, turns[0] = self._delayed(spectrum, number), turns[1]
                project(x, block.in_time, scratch)
            attend_in_time(x, block.in_time, turns[1], block.keys, block.values, bias, scratch)
            feed_forward(x, block.time_feed_forward, scratch)
            attend_among_bands(x, block.among_bands, block.band_rotations, scratch)
            feed_forward(x, block.band_feed_forward, scratch)
            bias = self.later_bias
        return spectrum

    def _delayed(self, spectrum: Complexes, number: int) -> Complexes:
        """Keep `x` and the spectrum of a frame; `x` becomes what it was a look-ahead ago, and so does what is
        returned."""
        features, spectra = self.delays
        new, old = (at % len(features) for at in (number, number - self.config.look_ahead_frames))
        asked: Complexes = self.asked.numpy()
        features[new], spectra[:, new] = self.x, spectrum
        self.x[:], asked[:] = features[old], spectra[:, old]
        return asked
