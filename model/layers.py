"""Layers of the published RoFormers, with the parameter names of their checkpoints."""

import itertools
import math
from collections.abc import Callable
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


class Transformer(nn.Module):
    """`depth` times x = attention(x) + x; x = feed-forward(x) + x, over [rows, positions, dim]."""

    def __init__(self, dim: int, depth: int, heads: int, dim_head: int, rotary: RotaryEmbedding) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(dim, heads, dim_head, rotary), FeedForward(dim)]) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = attention(x) + x
            x = feed_forward(x) + x
        return x


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
