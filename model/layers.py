"""Layers of the published RoFormers, with the parameter names of their checkpoints."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.stft import at_least_float32

SLICE_POSITIONS = 2048
"""Positions a transformer takes at a time per CPU thread: enough work per call, and it fits the cache."""


ALL = slice(None)


class Linear(nn.Linear):
    """A product in the precision of its weights, whatever comes in: everything around it stays in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class RMSNorm(nn.Module):
    """`rms_norm` with the gamma of a checkpoint."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.gamma)


def rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """x / |x| * sqrt(dim) * gamma: the norm is clamped from below, nothing is added to it."""
    wide = x.float() if x.dtype == torch.float16 else x  # squares overflow 65504
    return F.normalize(wide, dim=-1).to(x.dtype) * (gamma * math.sqrt(x.shape[-1]))


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

    def forward(self, positions: int, dtype: torch.dtype) -> Tensor:
        """Complex rotations [positions, dim_head / 2], from float64 angles, for features of `dtype`."""
        indices = torch.arange(positions, device=self.freqs.device, dtype=torch.float64)
        angles = torch.outer(indices, self.freqs.double())
        rotations = torch.polar(torch.ones_like(angles), angles)
        return rotations if dtype == torch.float64 else rotations.to(torch.complex64)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turn the pairs (x[2i], x[2i + 1]) of x's last axis, in place where x has the precision for it."""
    wide = at_least_float32(x)
    if torch.compiler.is_compiling():  # compilers fuse no complex numbers
        a, b = torch.unflatten(wide, -1, (-1, 2)).unbind(-1)
        cos, sin = torch.view_as_real(rotations).unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)
    torch.view_as_complex(torch.unflatten(wide, -1, (-1, 2))).mul_(rotations)
    return wide.to(x.dtype)


class Attention(nn.Module):
    """Gated self-attention over the second-last axis of [rows, positions, dim]."""

    def __init__(self, dim: int, heads: int, dim_head: int, rotary: RotaryEmbedding) -> None:
        super().__init__()
        self.heads = heads
        self.rotary_embed = rotary
        self.norm = RMSNorm(dim)
        self.to_qkv = Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_gates = Linear(dim, heads)
        self.to_out = nn.Sequential(Linear(heads * dim_head, dim, bias=False))

    def forward(self, x: Tensor, rotations: Tensor, asked: slice = ALL) -> Tensor:
        """[rows, positions, dim] -> [rows, positions asked for, dim]."""
        x = self.norm(x)
        q, k, v = self._asked(x, rotations, asked) if asked != ALL else self._all(x, rotations)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        gated = attended * self.to_gates(x[:, asked]).sigmoid().unsqueeze(-1)
        out: Tensor = self.to_out(gated.flatten(-2))
        return out

    def _all(self, x: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [rows, heads, positions, dim_head] in one product."""
        qkv = self.to_qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k = rotate(qkv[:, :, :2], rotations[:, None, None]).transpose(1, 3).unbind(2)
        return q, k, qkv[:, :, 2].transpose(1, 2)

    def _asked(self, x: Tensor, rotations: Tensor, asked: slice) -> tuple[Tensor, Tensor, Tensor]:
        """The same, with queries at the positions asked for alone."""
        weight = self.to_qkv.weight
        x = x.to(weight.dtype)
        of_q, of_kv = weight.tensor_split([len(weight) // 3])
        q = torch.unflatten(F.linear(x[:, asked], of_q), -1, (self.heads, -1))
        k, v = torch.unflatten(F.linear(x, of_kv), -1, (2, self.heads, -1)).unbind(2)
        q, k = rotate(q, rotations[asked, None]), rotate(k.contiguous(), rotations[:, None])
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class FeedForward(nn.Module):
    """Norm, Linear, exact GELU, Linear; the empty place is where published checkpoints count a Dropout."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(
            RMSNorm(dim),
            Linear(dim, dim * expansion),
            nn.GELU(),
            nn.Identity(),
            Linear(dim * expansion, dim),
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
        self.to_qkv = nn.Sequential(Linear(dim, 3 * heads * dim_head, bias=False))
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        # The empty place is where published checkpoints count a rearrangement.
        self.to_out = nn.Sequential(nn.Identity(), Linear(heads * dim_head, dim, bias=False))

    def forward(self, x: Tensor, asked: slice = ALL) -> Tensor:
        q, k, v = self.to_qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 4, 1)
        q, k = (F.normalize(at_least_float32(t), dim=-1) for t in (q, k))
        q = q * self.temperature.exp()
        attended = F.scaled_dot_product_attention(
            q.to(v.dtype), k.to(v.dtype), v[..., asked], scale=self.SCALE
        )
        out: Tensor = self.to_out(attended.permute(0, 3, 1, 2).flatten(2))
        return out


def transformer_layer(layer: nn.Module, x: Tensor, rotations: tuple[Tensor, ...], asked: slice) -> Tensor:
    """x = attention(x) + x; x = feed-forward(x) + x, of [rows, positions, dim] at the positions asked for."""
    attention, feed_forward = layer.children()
    x = attention(x, *rotations, asked=asked) + x[:, asked]
    out: Tensor = feed_forward(x) + x
    return out


class Transformer(nn.Module):
    """A `transformer_layer` for every attention given. [rows, positions, dim].

    `norm` is what comes last: a norm in the mel architecture, nothing in the other. On a CPU, rows are
    taken a few at a time: what they become on the way then stays in the cache.
    """

    def __init__(self, dim: int, attentions: Iterable[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([attend, FeedForward(dim)]) for attend in attentions)
        self.norm = norm
        self.layer = transformer_layer

    def forward(self, x: Tensor, *rotations: Tensor, asked: slice = ALL) -> Tensor:
        """`asked`: the positions to give out; the last attention's queries are limited to them."""
        rows = len(x)
        if x.device.type == "cpu":
            rows = max(1, SLICE_POSITIONS * torch.get_num_threads() // x.shape[1])
        parts = [self._run(part.contiguous(), rotations, asked) for part in torch.split(x, rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _run(self, x: Tensor, rotations: tuple[Tensor, ...], asked: slice) -> Tensor:
        *earlier, last = self.layers
        for layer in earlier:
            x = self.layer(layer, x, rotations, ALL)
        out: Tensor = self.norm(self.layer(last, x, rotations, asked))
        return out


def band_values(band_bins: tuple[range, ...], channels: int) -> tuple[slice, ...]:
    """Where each band lies in spectra of [..., bins * channels * 2] values."""
    return tuple(slice(2 * channels * bins.start, 2 * channels * bins.stop) for bins in band_bins)


class BandSplit(nn.Module):
    """Norm and Linear per band: values [..., bins * channels * 2] -> [..., bands, dim].

    One band after the other: a band's product is large enough, and what it makes stays in the cache.
    """

    def __init__(self, dim: int, band_bins: tuple[range, ...], channels: int) -> None:
        super().__init__()
        self.places = band_values(band_bins, channels)
        widths = (place.stop - place.start for place in self.places)
        self.to_features = nn.ModuleList(nn.Sequential(RMSNorm(w), Linear(w, dim)) for w in widths)

    def forward(self, x: Tensor) -> Tensor:
        bands = zip(self.to_features, self.places, strict=True)
        return torch.stack([net(x[..., place]) for net, place in bands], dim=-2)


def mask_mlp(dim: int, hidden: int, width: int, linears: int) -> nn.Sequential:
    """`linears` Linear layers with Tanh between them."""
    sizes = [dim, *[hidden] * (linears - 1), width]
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [Linear(size_in, size_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class MaskEstimator(nn.Module):
    """The mask of one stem: an MLP per band."""

    def __init__(
        self, dim: int, band_bins: tuple[range, ...], channels: int, linears: int, expansion: int
    ) -> None:
        super().__init__()
        self.places = band_values(band_bins, channels)
        sizes = [(dim, dim * expansion, 2 * (place.stop - place.start), linears) for place in self.places]
        self.to_freqs = nn.ModuleList(nn.Sequential(mask_mlp(*size), nn.GLU(dim=-1)) for size in sizes)

    def forward(self, x: Tensor, sums: Tensor) -> None:
        """Add the masks for features `x` [bands, ..., dim] to `sums` [..., bins * channels * 2].

        Bands may overlap; they are added from low to high, so the sum is the same on every device and
        every time, which a scatter-add's is not.
        """
        for net, place, band in zip(self.to_freqs, self.places, x, strict=True):
            sums[..., place] += net(band)


class MaskEstimators(nn.ModuleList):
    """A MaskEstimator for every stem: x [batch, spectral_frames, bands, dim] -> sums of the masks of all
    bands [batch, stems, spectral_frames, bins * channels * 2], at least float32."""

    def forward(self, x: Tensor) -> Tensor:
        first: MaskEstimator = self[0]  # type: ignore[assignment]
        bands = x.permute(2, 0, 1, 3).contiguous()
        values = max(place.stop for place in first.places)
        sums = at_least_float32(x.new_zeros(len(x), len(self), x.shape[1], values))
        for stem, estimate in enumerate(self):
            estimate(bands, sums[:, stem])
        return sums
