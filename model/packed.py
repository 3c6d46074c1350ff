"""The causal model's step for one spectral frame, with weights laid out for one CPU core.

The same function of the same parameters as in `CausalBSRoformer.advance`, in fewer and fatter operations:
norm gains and constant factors are folded into the products after them, query, key, value and gate are one
batched product, and single indexed copies replace the permutations between bins and bands.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.bands import BandGroup
from model.causal import CausalBSRoformer
from model.causal_layers import (
    BandAttention,
    BandFeatures,
    FeedForward,
    GatedAttention,
    LayerCache,
    StemMasks,
    TimeContext,
)
from model.causal_state import CausalState

MIN_WIDTH = 4
"""Narrower bands are padded to this many bins: the batched product has a fast kernel only from there on."""


class Packed(nn.Module):
    """Constant tensors by name; a trace turns them into constants of its graph."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().contiguous().clone())


def normalised(x: Tensor, dim: int) -> Tensor:
    """A trace computes anew whatever it is not told: so sizes are numbers here, and not asked of tensors."""
    return F.layer_norm(x, (dim,))


class PackedFeedForward(Packed):
    """Adds to x [bands, dim] in place. GELU(z) is (u + u erf u) / sqrt 2 with u = z / sqrt 2."""

    wide_bias: Tensor
    widen: Tensor
    narrow_bias: Tensor
    narrow: Tensor

    def __init__(self, layer: FeedForward) -> None:
        root, self.dim = math.sqrt(0.5), layer.narrow.out_features
        super().__init__(
            wide_bias=layer.widen.bias * root,
            widen=(layer.widen.weight * layer.norm.weight).t() * root,
            narrow_bias=layer.narrow.bias,
            narrow=layer.narrow.weight.t() * root,
        )

    def forward(self, x: Tensor) -> Tensor:
        u = torch.addmm(self.wide_bias, normalised(x, self.dim), self.widen)
        return x.add_(self.narrow_bias).addmm_(torch.addcmul(u, u, torch.erf(u)), self.narrow)


class PackedAttention(Packed):
    """Queries, key, value and gates in one product; queries come scaled."""

    weight: Tensor
    bias: Tensor
    out: Tensor

    def __init__(self, layer: GatedAttention) -> None:
        self.heads, self.dim_head, self.dim = layer.heads, layer.dim_head, layer.out.out_features
        project = torch.cat([layer.project.weight * layer.norm.weight, layer.project.bias[:, None]], dim=1)
        project[: self.heads * self.dim_head] *= self.dim_head**-0.5
        odd = self.heads % 2
        project = F.pad(project, (0, 0, 0, odd))  # rows of whole pairs, to be seen as complex
        self.sizes = [(self.heads + 1) * self.dim_head, self.dim_head, self.heads, odd][: 3 + odd]
        super().__init__(weight=project[:, :-1].t(), bias=project[:, -1], out=layer.out.weight.t())

    def split(self, x: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of x [bands, dim]: rotated queries [bands, heads, dim_head] and key [bands, 1, dim_head], value
        [bands, dim_head], open gates [bands, heads, 1]."""
        parts = torch.addmm(self.bias, normalised(x, self.dim), self.weight)
        turning, value, gate, *_ = parts.split_with_sizes(self.sizes, dim=1)
        pairs = torch.view_as_complex(torch.unflatten(turning, 1, (self.heads + 1, -1, 2)))
        query, key = (
            torch.view_as_real(pairs * rotations).flatten(-2).split_with_sizes((self.heads, 1), dim=1)
        )
        return query, key, value, gate.sigmoid().unsqueeze(2)

    def merge(self, x: Tensor, attended: Tensor, gate: Tensor) -> Tensor:
        """Add gated heads [bands, heads, dim_head] to x in place."""
        return x.addmm_(attended.mul_(gate).flatten(1), self.out)


class PackedTimeAttention(PackedAttention):
    def forward(self, x: Tensor, context: TimeContext, cache: LayerCache) -> Tensor:
        query, key, value, gate = self.split(x, context.rotations)
        if context.heard:
            features, rotations = context.heard
            _, key, value, _ = self.split(features.view(x.shape), rotations)
        cache.keys.index_copy_(2, context.slots, key.transpose(1, 2))
        cache.values.index_copy_(1, context.slots, value.unsqueeze(1))
        scores = torch.baddbmm(context.bias, query, cache.keys)
        return self.merge(x, torch.bmm(scores.softmax(-1), cache.values), gate)


class PackedBandAttention(PackedAttention):
    rotations: Tensor

    def __init__(self, layer: BandAttention) -> None:
        super().__init__(layer)
        self.register_buffer("rotations", torch.view_as_complex(layer.rotations).unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value, gate = self.split(x, self.rotations)
        scores = torch.mm(query.flatten(0, 1), key.squeeze(1).t())
        attended = torch.mm(scores.softmax(-1), value).view(-1, self.heads, self.dim_head)
        return self.merge(x, attended, gate)


def joined(rows: Iterable[Tensor]) -> Iterator[Tensor]:
    """Stack neighbours of equal shape, so that each stack is one batched product."""
    run: list[Tensor] = []
    for row in rows:
        if run and row.shape != run[-1].shape:
            yield torch.stack(run)
            run = []
        run.append(row)
    yield torch.stack(run)


def bands_of(groups: Iterable[BandGroup]) -> Iterator[tuple[int, int, int, int]]:
    """Every band in turn: its number, its group's number, its place in the group and its first bin."""
    for number, group in enumerate(groups):
        for place in range(group.bands):
            yield group.first_band + place, number, place, group.first_bin + place * group.width


class PackedFeatures(Packed):
    """Spectrum [channels, bins] -> features [bands, dim] + offset [dim]."""

    mix: Tensor
    membership: Tensor
    pick: Tensor
    pick_gain: Tensor
    one: Tensor

    def __init__(self, layer: BandFeatures, offset: Tensor) -> None:
        self.channels, self.power, self.floor = layer.channels, layer.power, layer.FLOOR
        root = 0.5**0.5
        mix = [[1.0, 0.0], [0.0, 1.0], [root, root], [root, -root]] if layer.channels == 2 else [[1.0]]
        bins, bands = layer.membership.shape
        planes = torch.arange(self.channels * bins).view(self.channels, bins)
        levels = planes.numel() + torch.arange(len(mix) * bands).view(len(mix), bands)
        picks, gains, weights = [], [], []
        for band, number, place, first in bands_of(layer.groups):
            width = layer.groups[number].width
            pick = torch.cat([planes[:, first : first + width].flatten(), levels[:, band]])
            linear = layer.bins[number]
            weight = torch.cat([linear.weight[place], layer.levels.weight[band] / 3])  # type: ignore[index]
            padding = self.channels * max(0, MIN_WIDTH - width)
            picks.append(F.pad(pick, (0, padding)))
            weights.append(F.pad(weight, (0, 0, 0, padding)))
            gain = torch.where(pick < planes.numel(), band, bands)  # levels take none
            gains.append(F.pad(gain, (0, padding)))
        linear_bias = torch.cat([linear.bias for linear in layer.bins])  # type: ignore[misc]
        level_bias = layer.levels.bias + 5 / 3 * layer.levels.weight.sum(1, keepdim=True)
        super().__init__(
            mix=torch.tensor(mix),
            membership=layer.membership,
            pick=torch.cat(picks).int(),
            pick_gain=torch.cat(gains).int(),
            one=torch.ones(1),
        )
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        bias, first = linear_bias + level_bias + offset, 0
        for weight in joined(weights):
            self.weights.append(frozen(weight))
            self.biases.append(frozen(bias[first : first + len(weight)]))
            first += len(weight)

    def forward(self, spectrum: Tensor) -> Tensor:
        planes = self.mix @ torch.view_as_real(spectrum).flatten(1)
        real, imaginary = torch.unflatten(planes.square(), 1, (-1, 2)).unbind(-1)
        squares = real + imaginary
        energies = squares @ self.membership
        gain = ((energies[: self.channels].mean(0) + self.floor) * self.power).rsqrt().sqrt()
        levels = (energies + self.floor).log10()
        roots = squares[: self.channels].sqrt().sqrt()
        source = torch.cat([roots.flatten(), levels.flatten()])
        gains = torch.cat([gain, self.one])
        flat = source.index_select(0, self.pick).mul_(gains.index_select(0, self.pick_gain))
        sizes = [weight.shape[0] * weight.shape[1] for weight in self.weights]
        rows = [
            torch.baddbmm(bias, part.view(weight.shape[0], 1, weight.shape[1]), weight)
            for bias, part, weight in zip(
                self.biases, flat.split_with_sizes(sizes), self.weights, strict=True
            )
        ]
        return torch.cat(rows).squeeze(1)


def frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().contiguous().clone(), requires_grad=False)


class PackedMasks(Packed):
    """Features [bands, dim] -> masks [stems, channels, bins]."""

    hidden: Tensor
    hidden_bias: Tensor
    pick: Tensor

    def __init__(self, layer: StemMasks) -> None:
        self.stems, self.channels = layer.stems, layer.channels
        self.dim, hidden = layer.hidden.weight.shape[1:]
        self.mask_hidden = hidden // self.stems
        self.bins = layer.groups[-1].last_bin
        pick = torch.empty(self.stems, self.channels, self.bins, dtype=torch.int)
        weights, size = [], 0
        for _, number, place, first in bands_of(layer.groups):
            width = layer.groups[number].width
            padded = max(MIN_WIDTH, width)
            linear = layer.outputs[number]
            stack = torch.cat([linear.weight, linear.bias], dim=1)  # type: ignore[list-item]
            stack = stack.view(-1, self.stems, stack.shape[1], self.channels, width)[place]
            stack = F.pad(stack, (0, padded - width))
            places = size + torch.arange(stack[:, 0].numel()).view(stack[:, 0].shape)
            pick[:, :, first : first + width] = places[..., :width]
            size += stack[:, 0].numel()
            weights.append(stack.flatten(2))
        super().__init__(
            hidden=layer.hidden.weight * layer.norm.weight[:, None],
            hidden_bias=layer.hidden.bias,
            pick=pick.flatten(),
        )
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for group in joined(weights):
            flat = group.flatten(0, 1)
            self.weights.append(frozen(flat[:, :-1]))
            self.biases.append(frozen(flat[:, -1:]))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.baddbmm(self.hidden_bias, normalised(x, self.dim).unsqueeze(1), self.hidden).tanh_()
        rows = hidden.view(-1, 1, self.mask_hidden)
        parts = rows.split_with_sizes([weight.shape[0] for weight in self.weights])
        outputs = [
            torch.baddbmm(bias, part, weight).flatten()
            for bias, part, weight in zip(self.biases, parts, self.weights, strict=True)
        ]
        masks = torch.cat(outputs).index_select(0, self.pick)
        return masks.view(self.stems, self.channels, self.bins).softmax(0)


class PackedStep(nn.Module):
    """`CausalBSRoformer.advance` for a batch of 1 and one spectral frame.

    The weights are a copy: later training is not seen.
    """

    rotations: Tensor

    def __init__(self, model: CausalBSRoformer) -> None:
        super().__init__()
        offset = model.embedded(torch.zeros(model.config.dim), model.config.look_ahead_frames)
        self.features = PackedFeatures(model.features, offset)
        self.times, self.rest = nn.ModuleList(), nn.ModuleList()
        for block in model.blocks:
            self.times.append(PackedTimeAttention(block.time_attention))  # type: ignore[arg-type]
            self.rest.append(
                nn.Sequential(
                    PackedFeedForward(block.time_feed_forward),  # type: ignore[arg-type]
                    PackedBandAttention(block.band_attention),  # type: ignore[arg-type]
                    PackedFeedForward(block.band_feed_forward),  # type: ignore[arg-type]
                )
            )
        self.masks = PackedMasks(model.masks)
        self.register_buffer("rotations", model.rotations)

    def forward(self, spectrum: Tensor, state: CausalState) -> Tensor:
        """Take in a spectral frame [channels, bins]; stems [stems, channels, bins]. Changes `state`."""
        x, spectra = self.advanced(self.features(spectrum), spectrum[None, :, None], state)
        stems: Tensor = spectra[0, :, 0] * self.masks(x)
        return stems

    def advanced(self, x: Tensor, spectra: Tensor, state: CausalState) -> tuple[Tensor, Tensor]:
        """Features [bands, dim] through all layers; the spectrum [1, channels, 1, bins] of their frame."""
        features, spectra, contexts = state.step(x.view(1, 1, *x.shape), spectra, self.rotations)
        x = features.view(x.shape)
        layers = zip(self.times, self.rest, contexts, state.caches, strict=True)
        for attention, rest, context, cache in layers:
            x = rest(attention(x, context, cache))
        return x, spectra
