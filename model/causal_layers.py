"""Layers of the causal band-split RoFormer: few, batched products, and attention that carries state.

Features are [batch, spectral_frames, bands, dim] throughout. Norms are layer norms without bias (one fused
kernel, forward and backward); rotary tables are periodic, so that a stream may run for ever.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.bands import BandGroup, band_groups
from model.config import CausalConfig
from model.stft import at_least_float32


def periodic_rotary(dim_head: int, period: int) -> Tensor:
    """Rotations [period, dim_head / 2, (cos, sin)], built in float64.

    Frequencies are those of theta 10000 rounded to 2 pi * max(1, round(P theta / (2 pi))) / P, so position
    p and p + P turn alike and an unbounded stream indexes the table with p mod P.
    """
    theta = 10000.0 ** -(torch.arange(0, dim_head, 2, dtype=torch.float64) / dim_head)
    turns = (period * theta / (2 * math.pi)).round().clamp_min(1)
    angles = 2 * math.pi / period * torch.outer(torch.arange(period, dtype=torch.float64), turns)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def rotate_pairs(x: Tensor, rotations: Tensor) -> Tensor:
    """Turn pairs of [..., positions, dim_head] by complex rotations [positions, dim_head / 2]."""
    pairs = x.to(rotations.real.dtype).view(*x.shape[:-1], -1, 2)
    return torch.view_as_real(torch.view_as_complex(pairs) * rotations).view(x.shape)


@dataclass
class TimeContext:
    """What the time layers of one call share: rotations by frame and, when streaming, the ring's places.

    `rotations` [spectral_frames, dim_head / 2]; `slots` [spectral_frames], where to write in the
    ring; `bias` [spectral_frames, ring], 0 where a query may look and -inf elsewhere.
    """

    rotations: Tensor
    slots: Tensor
    bias: Tensor


@dataclass
class LayerCache:
    """Ring of one time layer: rotated keys [rows, dim_head, ring], values [rows, ring, dim_head]."""

    keys: Tensor
    values: Tensor


class FeedForward(nn.Module):
    """x + Linear(GELU(Linear(norm(x))))."""

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.widen = nn.Linear(dim, dim * expansion)
        self.narrow = nn.Linear(dim * expansion, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.norm(x))))
        return out


class GatedAttention(nn.Module):
    """Norm, one product for query, key, value and gate, attention (by a subclass), gate, output product."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.heads, self.dim_head = config.heads, config.dim_head
        inner = config.heads * config.dim_head
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.project = nn.Linear(config.dim, 3 * inner + config.heads)
        self.out = nn.Linear(inner, config.dim, bias=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Query, key and value [batch, spectral_frames, bands, 3, heads, dim_head], gate [..., heads, 1]."""
        inner = self.heads * self.dim_head
        qkv, gate = self.project(self.norm(x)).split_with_sizes((3 * inner, self.heads), dim=-1)
        return qkv.view(*x.shape[:-1], 3, self.heads, self.dim_head), gate.sigmoid().unsqueeze(-1)

    def merge(self, x: Tensor, attended: Tensor, gate: Tensor) -> Tensor:
        """Add the gated heads [..., heads, dim_head] to x."""
        out: Tensor = x + self.out((attended.to(x.dtype) * gate).flatten(-2))
        return out


class BandAttention(GatedAttention):
    """Attention over the bands of one spectral frame."""

    rotations: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__(config)
        table = periodic_rotary(config.dim_head, config.rotary_period)[: len(config.bands)]
        self.register_buffer("rotations", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv, gate = self.split(x)
        qkv = qkv.flatten(0, 1).permute(2, 0, 3, 1, 4).contiguous()
        q, k = rotate_pairs(qkv[:2], torch.view_as_complex(self.rotations)).unbind()
        attended = F.scaled_dot_product_attention(q, k, qkv[2].to(q.dtype)).transpose(1, 2)
        return self.merge(x, attended.reshape(*gate.shape[:-1], -1), gate)


class TimeAttention(GatedAttention):
    """Attention over the newest `past_frames` spectral frames of one band."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__(config)
        self.past_frames = config.past_frames

    def forward(self, x: Tensor, rotations: Tensor) -> Tensor:
        """The whole signal at once; rotations [spectral_frames, dim_head / 2]."""
        q, k, v, gate = self._rows(x, rotations)
        return self._merge_rows(x, banded_attention(q, k, v, self.past_frames), gate)

    def advance(self, x: Tensor, context: TimeContext, cache: LayerCache) -> Tensor:
        """The next spectral frames; writes their keys and values into the ring, then attends to it."""
        q, k, v, gate = self._rows(x, context.rotations)
        cache.keys.index_copy_(2, context.slots, k.transpose(1, 2))
        cache.values.index_copy_(1, context.slots, v)
        scores = torch.baddbmm(context.bias, q, cache.keys, alpha=self.dim_head**-0.5)
        return self._merge_rows(x, torch.bmm(scores.softmax(-1), cache.values), gate)

    def _rows(self, x: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotated query and key, value [rows, spectral_frames, dim_head] (a row: batch, band, head); gate."""
        qkv, gate = self.split(x)
        rows = qkv.permute(3, 0, 2, 4, 1, 5).reshape(3, -1, x.shape[1], self.dim_head)
        q, k = rotate_pairs(rows[:2], rotations).unbind()
        return q, k, rows[2].to(q.dtype), gate

    def _merge_rows(self, x: Tensor, attended: Tensor, gate: Tensor) -> Tensor:
        batch, frames, bands = x.shape[:3]
        attended = attended.view(batch, bands, self.heads, frames, self.dim_head)
        return self.merge(x, attended.permute(0, 3, 1, 2, 4), gate)


def banded_attention(q: Tensor, k: Tensor, v: Tensor, past_frames: int) -> Tensor:
    """Attention of [rows, spectral_frames, dim_head] where frame t sees frames (t - past_frames, t].

    Blocks of `past_frames` queries against their own and the previous block of keys, so that memory and
    work grow linearly with the signal.
    """
    rows, length, width = q.shape[0], q.shape[1], past_frames
    blocks = -(-length // width)
    padding = blocks * width - length
    q = F.pad(q, (0, 0, 0, padding)).view(rows, blocks, width, -1).transpose(0, 1)
    k, v = (F.pad(t, (0, 0, width, padding)).view(rows, blocks + 1, width, -1) for t in (k, v))
    k, v = (torch.cat([t[:, :-1], t[:, 1:]], dim=2).transpose(0, 1) for t in (k, v))
    query = torch.arange(width, device=q.device)[:, None]
    key = torch.arange(-width, width, device=q.device)[None, :]
    allowed = ((key <= query) & (key > query - width)).expand(blocks, 1, width, 2 * width).clone()
    allowed[0, :, :, :width] = False  # in front of the first frame there is only padding
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    return attended.transpose(0, 1).reshape(rows, blocks * width, -1)[:, :length]


class CausalBlock(nn.Module):
    """Time attention, feed-forward, band attention, feed-forward."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.time_attention = TimeAttention(config)
        self.time_feed_forward = FeedForward(config.dim, config.expansion)
        self.band_attention = BandAttention(config)
        self.band_feed_forward = FeedForward(config.dim, config.expansion)

    def forward(self, x: Tensor, rotations: Tensor) -> Tensor:
        return self._rest(self.time_attention(x, rotations))

    def advance(self, x: Tensor, context: TimeContext, cache: LayerCache) -> Tensor:
        return self._rest(self.time_attention.advance(x, context, cache))

    def _rest(self, x: Tensor) -> Tensor:
        out: Tensor = self.band_feed_forward(self.band_attention(self.time_feed_forward(x)))
        return out


class GroupedLinear(nn.Module):
    """`groups` independent Linears in one batched product: [groups, rows, in] -> [groups, rows, out]."""

    def __init__(self, groups: int, size_in: int, size_out: int) -> None:
        super().__init__()
        bound = size_in**-0.5
        self.weight = nn.Parameter(torch.empty(groups, size_in, size_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(groups, 1, size_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class BandFeatures(nn.Module):
    """Spectrum [batch, channels, spectral_frames, bins] -> features [batch, spectral_frames, bands, dim].

    Stereo is taken as mid and side. A band's input is its complex bins and the square roots of their
    magnitudes, both relative to the band's level, and that level itself (log energy of mid, side, left and
    right), which a norm alone would discard. The floor of -100 dB keeps rounding noise out of silent bands.
    """

    FLOOR = 1e-10
    membership: Tensor
    band_of_bin: Tensor

    def __init__(self, config: CausalConfig, power: float) -> None:
        super().__init__()
        self.groups, self.channels, self.power = band_groups(config.bands), config.channels, power
        bands = len(config.bands)
        self.levels = GroupedLinear(bands, 2 * config.channels if config.channels == 2 else 1, config.dim)
        self.bins = nn.ModuleList(
            GroupedLinear(group.bands, 3 * config.channels * group.width, config.dim) for group in self.groups
        )
        band_of_bin = torch.repeat_interleave(torch.arange(bands), torch.tensor(config.bands))
        share = F.one_hot(band_of_bin, bands).float() / torch.tensor(config.bands)
        self.register_buffer("band_of_bin", band_of_bin, persistent=False)
        self.register_buffer("membership", share / power, persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        batch, _, frames, _ = spectrum.shape
        planes = self._planes(spectrum)
        magnitudes = planes.abs()
        energies = magnitudes.square() @ self.membership
        level = energies[:, : self.channels].mean(1, keepdim=True) + self.FLOOR
        gain = (self.power * level).rsqrt().index_select(-1, self.band_of_bin)
        shape = torch.view_as_real(planes[:, : self.channels] * gain).movedim(-1, 1).flatten(1, 2)
        parts = torch.cat([shape, (magnitudes[:, : self.channels] * gain).sqrt()], dim=1)
        rows = torch.cat([self._group(parts, g, net) for g, net in zip(self.groups, self.bins, strict=True)])
        levels = ((energies + self.FLOOR).log10() + 5) / 3
        rows += self.levels(levels.permute(3, 0, 2, 1).flatten(1, 2))
        return rows.view(-1, batch, frames, rows.shape[-1]).permute(1, 2, 0, 3)

    def _planes(self, spectrum: Tensor) -> Tensor:
        """Mid and side, then left and right; mono stays as it is."""
        if self.channels == 1:
            return spectrum
        left, right = spectrum.unbind(1)
        mid_side = torch.stack([left + right, left - right], dim=1) * 0.5**0.5
        return torch.cat([mid_side, spectrum], dim=1)

    @staticmethod
    def _group(parts: Tensor, group: BandGroup, net: nn.Module) -> Tensor:
        """[batch, planes, spectral_frames, bins] -> [bands of the group, rows, dim]."""
        part = parts[..., group.first_bin : group.last_bin]
        part = part.reshape(*part.shape[:-1], group.bands, group.width).permute(3, 0, 2, 1, 4)
        out: Tensor = net(part.reshape(group.bands, -1, parts.shape[1] * group.width))
        return out


class StemMasks(nn.Module):
    """Features -> complex masks [batch, stems, channels, spectral_frames, bins].

    One hidden layer per band, computed for all stems in one product; then one small output layer per band
    and stem. The real part is a sigmoid and the imaginary a tanh, so masks start near 0.5 + 0j.
    """

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.groups, self.channels = band_groups(config.bands), config.channels
        self.stems = config.stems
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.hidden = GroupedLinear(len(config.bands), config.dim, config.stems * config.mask_hidden)
        self.outputs = nn.ModuleList(
            GroupedLinear(group.bands * config.stems, config.mask_hidden, 2 * config.channels * group.width)
            for group in self.groups
        )
        for output in self.outputs:
            output.weight.data.mul_(0.1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        hidden = self.hidden(self.norm(x).permute(2, 0, 1, 3).flatten(1, 2)).tanh()
        hidden = hidden.view(*hidden.shape[:2], self.stems, -1).transpose(1, 2)
        parts = [self._group(hidden, g, net) for g, net in zip(self.groups, self.outputs, strict=True)]
        real, imaginary = at_least_float32(torch.cat(parts, dim=-1)).unbind()
        masks = torch.complex(real.sigmoid(), imaginary.tanh())
        return masks.view(self.stems, batch, frames, *masks.shape[2:]).permute(1, 0, 3, 2, 4)

    def _group(self, hidden: Tensor, group: BandGroup, net: nn.Module) -> Tensor:
        """[bands, stems, rows, hidden] -> [2, stems, rows, channels, bins of the group]."""
        rows: Tensor = net(hidden[group.first_band : group.last_band].flatten(0, 1))
        rows = rows.view(group.bands, self.stems, -1, 2, self.channels, group.width)
        return rows.permute(3, 1, 2, 4, 0, 5).flatten(-2)
