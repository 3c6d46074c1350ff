"""What a causal stream remembers of the spectral frames before: rings that are written in place.

Frames are numbered from 0 at the start of a signal. With a look-ahead of a, the frame that comes out of a
step is a frames older than the one that went in. The first a that come out lie before the signal: their
spectrum is 0, and no later frame attends to them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.causal_layers import LayerCache, TimeContext
from model.config import CausalConfig, ConfigError

NEVER = -(1 << 40)


@dataclass
class CausalState:
    """A ring of keys and values per layer and, where there is a look-ahead, one of features and of spectra.

    `position` [1] is the number of the next frame to go in, `slot_positions` [ring] says which frame went
    into each place of the caches (NEVER: none), `begins` [batch, 1, 1] with which frame each signal began.
    `caches` are in the order of the layers. `delays` are of features [batch, places, bands, dim] and spectra
    [batch, channels, places, bins]; empty without a look-ahead. Allocated once, written in place.
    Threads: one at a time.
    """

    config: CausalConfig
    position: Tensor
    slot_positions: Tensor
    begins: Tensor
    caches: list[LayerCache]
    delays: list[Tensor]

    @classmethod
    def new(cls, config: CausalConfig, like: Tensor, batch: int, capacity: int) -> CausalState:
        """The start of a signal, in the type and place of `like`; one step writes up to `capacity` frames.

        Raises ConfigError where the network sees whole signals only.
        """
        if not config.streams:
            raise ConfigError("this network sees the whole signal and cannot stream: use it on whole files")
        ring, places = config.past_frames - 1 + capacity, config.look_ahead_frames + capacity
        rows, bands, bins = batch * len(config.bands), len(config.bands), config.n_fft // 2 + 1
        shapes = [(rows, config.dim_head, ring), (rows, ring, config.dim_head)] * config.depth
        rings = [like.new_empty(shape) for shape in shapes]
        if config.look_ahead_frames:
            spectra = like.new_empty(batch, config.channels, places, bins, 2)
            rings += [like.new_empty(batch, places, bands, config.dim), torch.view_as_complex(spectra)]
        numbers = [like.new_empty(size, dtype=torch.long) for size in ((1,), (ring,), (batch, 1, 1))]
        state = cls.of(config, (*numbers, *rings))
        state.reset()
        return state

    @classmethod
    def of(cls, config: CausalConfig, tensors: tuple[Tensor, ...]) -> CausalState:
        """The state that consists of these `tensors`."""
        position, slot_positions, begins, *rings = tensors
        layers = 2 * config.depth
        caches = [LayerCache(rings[i], rings[i + 1]) for i in range(0, layers, 2)]
        return cls(config, position, slot_positions, begins, caches, rings[layers:])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that is written in place."""
        return self.position, self.slot_positions, self.begins, *self._rings

    @property
    def _rings(self) -> list[Tensor]:
        return [ring for cache in self.caches for ring in (cache.keys, cache.values)] + self.delays

    @property
    def capacity(self) -> int:
        """How many spectral frames one step may write."""
        return self.slot_positions.shape[0] - self.config.past_frames + 1

    def reset(self, signal: int | None = None) -> None:
        """Back to the start of one signal of the batch, or of all, in place.

        One begins where the others are: rotary positions are relative. Zeroing matters: a stale NaN times
        weight 0 is a NaN.
        """
        zero_rows(self._rings, len(self.begins), signal)
        if signal is None:
            self.position.zero_()
            self.slot_positions.fill_(NEVER)
            self.begins.zero_()
        else:
            self.begins[signal] = self.position

    def step(
        self, features: Tensor, spectrum: Tensor, rotations: Tensor
    ) -> tuple[Tensor, Tensor, list[TimeContext]]:
        """Take in features [batch, T, bands, dim] and spectrum [batch, channels, T, bins] of the next frames.

        `rotations` are those of `periodic_rotary`. Returns features and spectrum of the frames that come
        out, and the context of every time layer.
        """
        positions = self._claimed(spectrum.shape[2])
        slots = positions % self.slot_positions.shape[0]
        self.slot_positions.index_copy_(0, slots, positions)
        asking, ahead = positions.unsqueeze(1), self.config.look_ahead_frames
        visible = self.slot_positions >= torch.maximum(asking - (self.config.past_frames - 1), self.begins)
        if positions.shape[0] > 1:
            visible &= self.slot_positions <= asking
        turned = self._turned(rotations, positions - ahead if ahead else positions)
        first = rest = TimeContext(turned, slots, _bias(visible, rotations))
        if ahead:
            begun = self.slot_positions >= torch.minimum(asking, self.begins + ahead)
            rest = replace(rest, bias=_bias(visible & begun, rotations))
            first = replace(first, heard=(features, self._turned(rotations, positions)))
            features = _delayed(self.delays[0], 1, features, positions, ahead)
            spectrum = _delayed(self.delays[1], 2, spectrum, positions, ahead)
        return features, spectrum, [first, *[rest] * (self.config.depth - 1)]

    def _claimed(self, frames: int) -> Tensor:
        """The numbers of the next frames, which are then no longer the next."""
        positions = self.position + torch.arange(frames, device=self.position.device)
        self.position.add_(frames)
        return positions

    def _turned(self, rotations: Tensor, positions: Tensor) -> Tensor:
        """Complex [spectral_frames, dim_head / 2]."""
        return torch.view_as_complex(rotations.index_select(0, positions % self.config.rotary_period))


def zero_rows(tensors: list[Tensor], rows: int, row: int | None) -> None:
    """Zero one of the `rows` equal parts that the tensors consist of, or all."""
    for tensor in tensors:
        part = tensor if row is None else tensor.view(rows, -1)[row]
        part.zero_()


def _bias(visible: Tensor, like: Tensor) -> Tensor:
    return torch.where(visible, 0.0, -torch.inf).to(like.dtype)


def _delayed(ring: Tensor, dim: int, frames: Tensor, positions: Tensor, by: int) -> Tensor:
    """Put frames into their places of a ring; those that went in `by` frames before."""
    places = ring.shape[dim]
    ring.index_copy_(dim, positions % places, frames)
    return ring.index_select(dim, (positions - by) % places)
