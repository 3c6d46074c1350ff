"""The causal model's weights as arrays laid out for compiled code, and names for the arrays it works on.

Norm gains and constant factors are folded into the products after them, but into bands' own weights; query,
key, value and gates are one product. All are copies: later training is not seen. Threads: any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.bands import BandGroup
from model.causal_layers import BandFeatures, FeedForward, GatedAttention, StemMasks
from model.config import CausalConfig
from model.precision import as_small_as_exact

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Complexes = NDArray[np.complex64]
Reals = NDArray[np.float32] | NDArray[np.uint16]
"""Float32, or the upper halves of such: bfloat16."""

TILE_COLUMNS = 16
"""Columns of a product that are worked out together: rows are filled up to these with zeros."""
LEVELS = 4
"""At most: of mid, side, left and right."""


class Projection(NamedTuple):
    """Weights of an attention: weight [dim, columns], bias [columns], out [heads * dim_head, dim].

    Columns are queries (scaled), key, value, gates and zeros up to a whole tile.
    """

    weight: Floats
    bias: Floats
    out: Floats


class Widening(NamedTuple):
    """Weights of a feed-forward, for a GELU of u = z / sqrt 2."""

    wide_bias: Floats
    widen: Floats
    narrow_bias: Floats
    narrow: Floats


class Block(NamedTuple):
    """Weights of a `CausalBlock`, rotations of its bands [bands, dim_head / 2, 2], and the ring of its time
    attention as in `LayerCache`."""

    in_time: Projection
    time_feed_forward: Widening
    among_bands: Projection
    band_rotations: Floats
    band_feed_forward: Widening
    keys: Floats
    values: Floats


class Bands(NamedTuple):
    """Where each band lies, its first bin and how many, and what its input is weighed with.

    `weights` [rows, dim] holds a band's rows from `place` on: for its bins, channel by channel, then for its
    levels; `biases` [bands, dim].
    """

    first: Indices
    width: Indices
    place: Indices
    weights: Reals
    biases: Floats


class MaskWeights(NamedTuple):
    """gain [dim] of the norm, hidden [bands, dim, stems * mask_hidden], hidden_bias [bands, stems *
    mask_hidden], output_bias [stems, channels, bins]; `outputs` is a [mask_hidden, width] for each band, stem
    and channel, end to end.
    """

    gain: Floats
    hidden: Reals
    hidden_bias: Floats
    outputs: Reals
    output_bias: Floats


class Network(NamedTuple):
    """All weights, rotations [rotary_period, dim_head / 2, 2], the power of the analysis window, and how many
    frames a layer sees back and the first one ahead."""

    bands: Bands
    blocks: tuple[Block, ...]
    masking: MaskWeights
    rotations: Floats
    power: np.float32
    past_frames: int
    look_ahead_frames: int


class Memory(NamedTuple):
    """Of a `CausalState` of one signal: `position` [1], `slot_positions` [ring], `begins` [1]; its delays are
    `features` [places, bands, dim] and `spectra` [channels, places, bins], of no places without a look-ahead.
    """

    position: Indices
    slot_positions: Indices
    begins: Indices
    features: Floats
    spectra: Complexes


class Scratch(NamedTuple):
    """Room for what a hop works on.

    heard [inputs of the widest band], x and normed [bands, dim], first_bias and later_bias [ring], asked
    [channels, bins]; parts [bands, columns], wide [bands, hidden], key [dim_head, bands to a whole tile],
    value [bands, dim_head], query and attended [bands, heads, dim_head], time_scores [heads, ring] and
    band_scores [bands * heads, bands to a whole tile]; hidden [stems * mask_hidden], masks [stems, channels,
    bins] and sums [channels * bins].
    """

    heard: Floats
    x: Floats
    first_bias: Floats
    later_bias: Floats
    asked: Complexes
    normed: Floats
    parts: Floats
    wide: Floats
    key: Floats
    value: Floats
    query: Floats
    attended: Floats
    time_scores: Floats
    band_scores: Floats
    hidden: Floats
    masks: Floats
    sums: Floats


def rows_of(weight: Tensor) -> Floats:
    """A copy as float32 rows."""
    out: Floats = weight.detach().float().contiguous().clone().numpy()
    return out


def narrowed(weight: Tensor) -> Reals:
    """A copy, as small as a checkpoint keeps it: half as much to read at every hop."""
    small = as_small_as_exact(weight.detach())
    if small.dtype != torch.bfloat16:
        return rows_of(small)
    halves: Reals = small.contiguous().view(torch.uint16).numpy()
    return halves


def projection_of(layer: GatedAttention) -> Projection:
    weight = (layer.project.weight * layer.norm.weight).clone()
    bias = layer.project.bias.clone()
    queries = layer.heads * layer.dim_head
    weight[:queries] *= layer.dim_head**-0.5
    bias[:queries] *= layer.dim_head**-0.5
    padding = -len(weight) % TILE_COLUMNS
    weight, bias = (F.pad(t, (*[0] * (2 * t.ndim - 1), padding)) for t in (weight, bias))
    return Projection(rows_of(weight.t()), rows_of(bias), rows_of(layer.out.weight.t()))


def widening_of(layer: FeedForward) -> Widening:
    root = math.sqrt(0.5)
    return Widening(
        rows_of(layer.widen.bias * root),
        rows_of((layer.widen.weight * layer.norm.weight).t() * root),
        rows_of(layer.narrow.bias),
        rows_of(layer.narrow.weight.t() * root),
    )


def places_of(groups: tuple[BandGroup, ...]) -> list[tuple[int, int, BandGroup]]:
    """Every band in turn: its group's number, its place in the group, and the group."""
    return [(n, place, group) for n, group in enumerate(groups) for place in range(group.bands)]


def bands_of(layer: BandFeatures, offset: Tensor) -> Bands:
    """`offset` [dim] is added to the features of every band."""
    numbers, weights, biases, start = [], [], [], 0
    for band, (number, place, group) in enumerate(places_of(layer.groups)):
        linear = layer.bins[number]
        weight = torch.cat([linear.weight[place], layer.levels.weight[band]])  # type: ignore[index]
        numbers.append((group.first_bin + place * group.width, group.width, start))
        weights.append(weight)
        biases.append(linear.bias[place, 0] + layer.levels.bias[band, 0] + offset)  # type: ignore[index]
        start += len(weight)
    first, width, places = np.array(numbers, dtype=np.int64).T.copy()
    return Bands(first, width, places, narrowed(torch.cat(weights)), rows_of(torch.stack(biases)))


def masking_of(layer: StemMasks) -> MaskWeights:
    outputs, biases = [], []
    for number, place, group in places_of(layer.groups):
        linear = layer.outputs[number]
        of_stems = slice(place * layer.stems, (place + 1) * layer.stems)
        by_channel = (layer.stems, -1, layer.channels, group.width)
        outputs.append(linear.weight[of_stems].view(by_channel).transpose(1, 2).flatten())  # type: ignore[index]
        biases.append(linear.bias[of_stems].view(by_channel).squeeze(1))  # type: ignore[index]
    return MaskWeights(
        gain=rows_of(layer.norm.weight),
        hidden=narrowed(layer.hidden.weight),
        hidden_bias=rows_of(layer.hidden.bias.squeeze(1)),
        outputs=narrowed(torch.cat(outputs)),
        output_bias=rows_of(torch.cat(biases, dim=-1)),
    )


def scratch_for(config: CausalConfig, columns: int, ring: int, zeros: Callable[..., Any]) -> Scratch:
    """For layers whose projections have so many columns, of what `zeros` makes of a shape."""
    bands, heads, dim_head = len(config.bands), config.heads, config.dim_head
    channels, bins = config.channels, config.n_fft // 2 + 1
    whole = -(-bands // TILE_COLUMNS) * TILE_COLUMNS
    return Scratch(
        heard=zeros((channels * max(config.bands) + LEVELS,)),
        x=zeros((bands, config.dim)),
        first_bias=zeros((ring,)),
        later_bias=zeros((ring,)),
        asked=zeros((channels, bins), np.complex64),
        normed=zeros((bands, config.dim)),
        parts=zeros((bands, columns)),
        wide=zeros((bands, config.dim * config.expansion)),
        key=zeros((dim_head, whole)),
        value=zeros((bands, dim_head)),
        query=zeros((bands, heads, dim_head)),
        attended=zeros((bands, heads, dim_head)),
        time_scores=zeros((heads, ring)),
        band_scores=zeros((bands * heads, whole)),
        hidden=zeros((config.stems * config.mask_hidden,)),
        masks=zeros((config.stems, channels, bins)),
        sums=zeros((channels * bins,)),
    )
