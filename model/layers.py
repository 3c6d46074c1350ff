"""Layers of the published RoFormers, with the parameter names of their checkpoints."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / |x| * sqrt(dim) * gamma: the norm is clamped from below, nothing is added to it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype == torch.float16 else x  # squares overflow 65504
        return (F.normalize(wide, dim=-1) * self.scale).to(x.dtype) * self.gamma


class RotaryEmbedding(nn.Module):
    """Rotary position embedding on interleaved pairs, theta 10000.

    `freqs` is part of a checkpoint and keeps its precision when the model's is lowered: rounded
    frequencies are wrong positions.
    """

    def __init__(self, dim_head: int) -> None:
        super().__init__()
        freqs = 10000.0 ** -(torch.arange(0, dim_head, 2).float() / dim_head)
        self.freqs = nn.Parameter(freqs, requires_grad=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.freqs.data
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.freqs.data = exact.to(self.freqs.device)
        return self

    def table(self, positions: int) -> tuple[Tensor, Tensor]:
        """cos and sin, [positions, dim_head / 2], from float64 angles."""
        indices = torch.arange(positions, device=self.freqs.device, dtype=torch.float64)
        angles = torch.outer(indices, self.freqs.double())
        return angles.cos(), angles.sin()

    def forward(self, *xs: Tensor) -> tuple[Tensor, ...]:
        """Rotate tensors [..., positions, dim_head]."""
        cos, sin = (part.to(xs[0].dtype) for part in self.table(xs[0].shape[-2]))
        return tuple(rotate(x, cos, sin) for x in xs)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn every pair (x[2i], x[2i + 1]) of the last axis by its angle."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


class Attention(nn.Module):
    """Gated self-attention over the second-last axis of [rows, positions, dim]."""

    def __init__(self, dim: int, heads: int, dim_head: int, rotary: RotaryEmbedding) -> None:
        super().__init__()
        self.heads = heads
        self.rotary_embed = rotary
        self.norm = RMSNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_gates = nn.Linear(dim, heads)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.rotary_embed(q, k)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        gated = attended * self.to_gates(x).sigmoid().unsqueeze(-1)
        out: Tensor = self.to_out(gated.flatten(-2))
        return out


class FeedForward(nn.Module):
    """Norm, Linear, exact GELU, Linear; the empty place is where published checkpoints count a Dropout."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(
            RMSNorm(dim),
            nn.Linear(dim, dim * expansion),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(dim * expansion, dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class LinearAttention(nn.Module):
    """Attention between the features of a head instead of between positions (XCiT, arXiv 2106.09681).

    Queries and keys are normalised over the positions; the softmax over features has a fixed scale of 8
    times a learned temperature per head. No rotary embedding, no gates. [rows, positions, dim].
    """

    SCALE = 8.0

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(dim)
        self.to_qkv = nn.Sequential(nn.Linear(dim, 3 * heads * dim_head, bias=False))
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        # The empty place is where published checkpoints count a rearrangement.
        self.to_out = nn.Sequential(nn.Identity(), nn.Linear(heads * dim_head, dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 4, 1)
        q = F.normalize(q, dim=-1) * self.temperature.exp()
        attended = F.scaled_dot_product_attention(q, F.normalize(k, dim=-1), v, scale=self.SCALE)
        out: Tensor = self.to_out(attended.permute(0, 3, 1, 2).flatten(2))
        return out


class Transformer(nn.Module):
    """For every attention given: x = attention(x) + x; x = feed-forward(x) + x. [rows, positions, dim].

    `norm` is what comes last: a norm in the mel architecture, nothing in the other.
    """

    def __init__(self, dim: int, attentions: Iterable[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([attend, FeedForward(dim)]) for attend in attentions)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = attention(x) + x
            x = feed_forward(x) + x
        out: Tensor = self.norm(x)
        return out


class BandSplit(nn.Module):
    """[..., sum of widths] -> [..., bands, dim]: one norm and one Linear per band."""

    def __init__(self, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = widths
        self.to_features = nn.ModuleList(nn.Sequential(RMSNorm(w), nn.Linear(w, dim)) for w in widths)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, list(self.widths), dim=-1)
        return torch.stack([net(part) for net, part in zip(self.to_features, parts, strict=True)], dim=-2)


def mask_mlp(dim: int, hidden: int, width: int, linears: int) -> nn.Sequential:
    """`linears` Linear layers with Tanh between them."""
    sizes = [dim, *[hidden] * (linears - 1), width]
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class MaskEstimator(nn.Module):
    """[..., bands, dim] -> [..., sum of widths]: the mask of one stem."""

    def __init__(self, dim: int, widths: tuple[int, ...], linears: int, expansion: int) -> None:
        super().__init__()
        self.to_freqs = nn.ModuleList(
            nn.Sequential(mask_mlp(dim, dim * expansion, 2 * w, linears), nn.GLU(dim=-1)) for w in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([net(part) for net, part in zip(self.to_freqs, x.unbind(-2), strict=True)], dim=-1)


class BandBins(nn.Module):
    """Which bins the bands hold, one band after the other: taking them out, and averaging them back.

    Bands may overlap. Averaging gathers and sums in the order of the bands, so it is deterministic on
    every device, which a scatter-add is not.
    """

    bins: Tensor
    places: Tensor
    shares: Tensor

    def __init__(self, band_bins: tuple[range, ...]) -> None:
        super().__init__()
        members = list(itertools.chain.from_iterable(band_bins))
        holders: list[list[int]] = [[] for _ in range(max(members) + 1)]
        for place, bin_index in enumerate(members):
            holders[bin_index].append(place)
        overlap = max(map(len, holders))
        places = [(found * overlap)[:overlap] for found in holders]
        shares = [[1 / len(found)] * len(found) + [0.0] * (overlap - len(found)) for found in holders]
        self.register_buffer("bins", torch.tensor(members), persistent=False)
        self.register_buffer("places", torch.tensor(places).T.contiguous(), persistent=False)
        self.register_buffer("shares", torch.tensor(shares).T.contiguous(), persistent=False)

    def take(self, spectrum: Tensor) -> Tensor:
        """[batch, spectral_frames, bins, ...] -> [batch, spectral_frames, sum of the bands' bins, ...]."""
        return spectrum.index_select(2, self.bins)

    def average(self, masks: Tensor) -> Tensor:
        """[batch, stems, spectral_frames, sum of the bands' bins, ...] -> [..., bins, ...]."""
        shares = self.shares.to(masks.dtype)[..., None, None]
        held = (masks.index_select(3, place) for place in self.places)
        return torch.stack([part * share for part, share in zip(held, shares, strict=True)]).sum(0)
