"""Band split and masks of a published RoFormer with neighbouring bands in one product: fewer, larger calls.

The same functions of the same weights as BandSplit and MaskEstimators, for a GPU: there a call costs
microseconds whatever it does, and sixty bands make hundreds of them. On a CPU one band after the other is
faster. Narrow bands are filled up with zeros to the width of the widest of their group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import BandSplit, MaskEstimator, MaskEstimators
from model.roformer import Roformer
from model.stft import at_least_float32

MOST_PADDING = 1.5
"""How much wider than its narrowest band the widest of a group may be."""


def group_bands(network: Roformer) -> None:
    """Let band split and masks of a network work group by group, in place, with its weights as they are now.

    Afterwards it has no checkpoint's keys; nothing happens a second time. Threads: one at a time.
    """
    if isinstance(network.band_split, GroupedBandSplit):
        return
    network.band_split = GroupedBandSplit(cast(BandSplit, network.band_split))
    network.mask_estimators = GroupedMaskEstimators(cast(MaskEstimators, network.mask_estimators))


def width_groups(widths: Sequence[int]) -> list[range]:
    """Neighbouring bands of about one width, in order."""
    groups, first = [], 0
    for band in range(1, len(widths) + 1):
        inside = widths[first : band + 1]
        if band == len(widths) or max(inside) > MOST_PADDING * min(inside):
            groups.append(range(first, band))
            first = band
    return groups


def stacked(rows: Iterable[Tensor], size: int, filling: float = 0) -> Tensor:
    """Tensors [..., at most size] as one [rows, ..., size]."""
    return torch.stack([F.pad(row.detach(), (0, size - row.shape[-1]), value=filling) for row in rows])


class BandProducts(nn.Module):
    """Of each band its own Linear, in one call: [bands, rows, in] -> [bands, rows, out]."""

    def __init__(self, weights: Tensor, biases: Tensor) -> None:
        """`weights` [bands, out, in] and `biases` [bands, out], as Linears have them."""
        super().__init__()
        self.weight = nn.Parameter(weights.transpose(1, 2).contiguous(), requires_grad=False)
        self.bias = nn.Parameter(biases.unsqueeze(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x.to(self.weight.dtype), self.weight)


class SplitGroup(nn.Module):
    """Norm and Linear of some bands: values [batch, spectral_frames, values] -> [bands, rows, dim].

    Behind the last value lies a 0: that is what fills narrow bands up.
    """

    gains: Tensor
    indices: Tensor

    def __init__(self, places: Sequence[slice], nets: Sequence[Any], values: int) -> None:
        super().__init__()
        widths = [place.stop - place.start for place in places]
        gains = [norm.gamma * width**0.5 for (norm, _), width in zip(nets, widths, strict=True)]
        device = gains[0].device
        indices = [torch.arange(place.start, place.stop, device=device) for place in places]
        self.register_buffer("gains", stacked(gains, max(widths)))
        self.register_buffer("indices", stacked(indices, max(widths), filling=values))
        weights = stacked((linear.weight for _, linear in nets), max(widths))
        self.products = BandProducts(weights, stacked((linear.bias for _, linear in nets), weights.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.normalize(x[..., self.indices], dim=-1) * self.gains
        rows: Tensor = self.products(normed.flatten(0, 1).transpose(0, 1))
        return rows


class GroupedBandSplit(nn.Module):
    """As BandSplit: values [batch, spectral_frames, values] -> [batch, spectral_frames, bands, dim]."""

    def __init__(self, split: BandSplit) -> None:
        super().__init__()
        places, nets = split.places, list(split.to_features)
        values = max(place.stop for place in places)
        self.groups = nn.ModuleList(
            SplitGroup(places[group.start : group.stop], nets[group.start : group.stop], values)
            for group in width_groups([place.stop - place.start for place in places])
        )

    def forward(self, x: Tensor) -> Tensor:
        ended = F.pad(x, (0, 1))
        rows = torch.cat([group(ended) for group in self.groups])
        return torch.unflatten(rows, 1, x.shape[:2]).permute(1, 2, 0, 3)


class MaskGroup(nn.Module):
    """Last Linear and GLU of some bands of all stems: hidden [stems, bands, rows, hidden] of all bands ->
    [stems, rows, places], `width` places for each band of the group."""

    def __init__(self, bands: range, linears: Sequence[Sequence[nn.Linear]]) -> None:
        """`linears` of every stem's every band."""
        super().__init__()
        mine = [stem[band] for stem in linears for band in bands]
        self.stems, self.bands = len(linears), slice(bands.start, bands.stop)
        self.width = max(linear.out_features for linear in mine) // 2
        weights = torch.stack([self._halves(linear.weight) for linear in mine])
        biases = torch.stack([self._halves(linear.bias.unsqueeze(1)) for linear in mine])
        self.products = BandProducts(weights, biases.squeeze(2))

    def _halves(self, rows: Tensor) -> Tensor:
        """Values and gates [2 * out, n], each filled up to the group's width."""
        values_and_gates = torch.unflatten(rows.detach(), 0, (2, -1))
        return F.pad(values_and_gates, (0, 0, 0, self.width - values_and_gates.shape[1])).flatten(0, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        gated = F.glu(self.products(hidden[:, self.bands].flatten(0, 1)), dim=-1)
        return torch.unflatten(gated, 0, (self.stems, -1)).transpose(1, 2).flatten(2)


def holders_of(places: Sequence[slice], widths: Sequence[int]) -> Tensor:
    """Where a row of the bands' outputs, `widths` wide each, has what is added up for a value, from low to
    high bands: [most bands that hold one value, values]. Where fewer do, the place behind the last."""
    found: list[list[int]] = [[] for _ in range(max(place.stop for place in places))]
    first = 0
    for place, width in zip(places, widths, strict=True):
        for step, value in enumerate(range(place.start, place.stop)):
            found[value].append(first + step)
        first += width
    most = max(map(len, found))
    return torch.tensor([holders + [first] * (most - len(holders)) for holders in found]).T.contiguous()


class GroupedMaskEstimators(nn.Module):
    """As MaskEstimators: x [batch, spectral_frames, bands, dim] -> sums [batch, stems, frames, values]."""

    picks: Tensor

    def __init__(self, estimators: MaskEstimators) -> None:
        super().__init__()
        stems = [cast(MaskEstimator, estimator) for estimator in estimators]
        linears = [
            [[part for part in net[0] if isinstance(part, nn.Linear)] for net in stem.to_freqs]  # type: ignore[index]
            for stem in stems
        ]
        self.stems, places = len(stems), stems[0].places
        self.hidden = nn.ModuleList(
            BandProducts(
                torch.stack([band[layer].weight.detach() for stem in linears for band in stem]),
                torch.stack([band[layer].bias.detach() for stem in linears for band in stem]),
            )
            for layer in range(len(linears[0][0]) - 1)
        )
        bands = width_groups([place.stop - place.start for place in places])
        last = [[band[-1] for band in stem] for stem in linears]
        groups = [MaskGroup(group, last) for group in bands]
        self.groups = nn.ModuleList(groups)
        widths = [group.width for group in groups for _ in range(group.bands.start, group.bands.stop)]
        self.register_buffer("picks", holders_of(places, widths).to(last[0][0].weight.device))

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        rows = x.permute(2, 0, 1, 3).flatten(1, 2).repeat(self.stems, 1, 1)
        for products in self.hidden:
            rows = products(rows).tanh()
        rows = torch.unflatten(rows, 0, (self.stems, -1))
        # The place behind the last, which `picks` takes for bands that are not there, holds a 0.
        outputs = F.pad(torch.cat([group(rows) for group in self.groups], dim=-1), (0, 1))
        sums = at_least_float32(outputs)[..., self.picks].sum(2)
        return torch.unflatten(sums, 1, (batch, frames)).transpose(0, 1)
