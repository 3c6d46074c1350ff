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
from model.config import WHOLE_SIGNAL, CausalConfig
from model.stft import at_least_float32, mid_side


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
    """What the time layers of one streaming step share: rotations by frame and the ring's places.

    `rotations` [spectral_frames, dim_head / 2]; `slots` [spectral_frames], where to write in the ring; `bias`
    [batch, spectral_frames, ring], 0 where a query may look and -inf elsewhere. `heard` is of the first layer
    of a network that looks ahead: features and rotations of the frames that go into the ring, later than
    those that ask.
    """

    rotations: Tensor
    slots: Tensor
    bias: Tensor
    heard: tuple[Tensor, Tensor] | None = None


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
    """Norm, one product for queries, key, value and gates, attention (by a subclass), gates, output product.

    All heads share one key and one value (arXiv 1911.02150): a ring of the past is read whole at every hop,
    and its bytes, not its arithmetic, are what a hop costs.
    """

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.heads, self.dim_head = config.heads, config.dim_head
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.project = nn.Linear(config.dim, (config.heads + 2) * config.dim_head + config.heads)
        self.out = nn.Linear(config.heads * config.dim_head, config.dim, bias=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of x [..., dim]: queries, key, value [..., heads + 2, dim_head] and open gates [..., heads, 1]."""
        qkv, gate = self.project(self.norm(x)).split_with_sizes(
            ((self.heads + 2) * self.dim_head, self.heads), dim=-1
        )
        return torch.unflatten(qkv, -1, (-1, self.dim_head)), gate.sigmoid().unsqueeze(-1)

    def rotated(self, qkv: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of [rows, positions, heads + 2, dim_head]: rotated queries [rows, heads, positions, dim_head]
        and key, value [rows, positions, dim_head]."""
        rows = qkv.transpose(1, 2).contiguous()
        turned = rotate_pairs(rows[:, :-1], rotations)
        return turned[:, :-1], turned[:, -1], rows[:, -1].to(turned.dtype)

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
        q, k, v = self.rotated(qkv.flatten(0, 1), torch.view_as_complex(self.rotations))
        # Two plain products beat the fused kernel where rows are this short.
        scores = torch.bmm(q.flatten(1, 2) * self.dim_head**-0.5, k.transpose(1, 2))
        attended = torch.bmm(scores.softmax(-1), v).view(*x.shape[:2], self.heads, x.shape[2], self.dim_head)
        return self.merge(x, attended.transpose(2, 3), gate)


class TimeAttention(GatedAttention):
    """Attention over `past_frames` spectral frames of one band, the newest `look_ahead` after the query's."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__(config)
        self.past_frames = config.past_frames

    def forward(self, x: Tensor, rotations: Tensor, look_ahead: int = 0) -> Tensor:
        """The whole signal at once; rotations [spectral_frames, dim_head / 2]."""
        q, k, v, gate = self._rows(x, rotations)
        return self._merge_rows(x, banded_attention(q, k, v, self.past_frames, look_ahead), gate)

    def advance(self, x: Tensor, context: TimeContext, cache: LayerCache) -> Tensor:
        """The next spectral frames; writes keys and values into the ring, then attends to it."""
        q, k, v, gate = self._rows(x, context.rotations)
        if context.heard:
            _, k, v, _ = self._rows(*context.heard)
        cache.keys.index_copy_(2, context.slots, k.transpose(1, 2))
        cache.values.index_copy_(1, context.slots, v)
        scores = torch.bmm(q.flatten(1, 2), cache.keys)
        by_signal = scores.view(len(context.bias), -1, *context.bias.shape[1:])
        torch.add(context.bias.unsqueeze(1), by_signal, alpha=self.dim_head**-0.5, out=by_signal)
        return self._merge_rows(x, torch.bmm(scores.softmax(-1), cache.values), gate)

    def _rows(self, x: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `rotated`, a row being a batch and a band; gates."""
        qkv, gate = self.split(x)
        return *self.rotated(qkv.transpose(1, 2).flatten(0, 1), rotations), gate

    def _merge_rows(self, x: Tensor, attended: Tensor, gate: Tensor) -> Tensor:
        batch, frames, bands = x.shape[:3]
        attended = attended.view(batch, bands, self.heads, frames, self.dim_head)
        return self.merge(x, attended.permute(0, 3, 1, 2, 4), gate)


def banded_attention(q: Tensor, k: Tensor, v: Tensor, past_frames: int, look_ahead: int = 0) -> Tensor:
    """Attention of q [rows, heads, spectral_frames, dim_head] over k, v [rows, spectral_frames, dim_head],
    where frame t sees frames (t + look_ahead - past_frames, t + look_ahead], or all of them (WHOLE_SIGNAL).

    Blocks of half as many queries against their own keys and those of the past, so that memory and work
    grow linearly with the signal; for that, `look_ahead` is at most half of `past_frames`.
    """
    rows, heads, length, width = q.shape
    if look_ahead == WHOLE_SIGNAL:
        # as one head: kernels that keep no scores ask for four axes
        queries = q.flatten(1, 2).unsqueeze(1)
        return F.scaled_dot_product_attention(queries, k.unsqueeze(1), v.unsqueeze(1)).view(q.shape)
    block = -(-past_frames // 2)
    blocks = -(-length // block)
    padding = blocks * block - length
    q = torch.unflatten(F.pad(q, (0, 0, 0, padding)), 2, (blocks, block)).permute(2, 0, 1, 3, 4).flatten(2, 3)
    k, v = (
        F.pad(t, (0, 0, past_frames - look_ahead, padding + look_ahead))
        .unfold(1, past_frames + block, block)
        .permute(1, 0, 3, 2)
        for t in (k, v)
    )
    first = block * torch.arange(blocks, device=q.device)[:, None, None] + look_ahead
    query = torch.arange(block, device=q.device)[:, None]
    key = torch.arange(-past_frames, block, device=q.device)
    allowed = (key <= query) & (key > query - past_frames) & (key + first >= 0) & (key + first < length)
    allowed = allowed.unsqueeze(1).repeat(1, 1, heads, 1)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    attended = attended.view(blocks, rows, heads, block, width).permute(1, 2, 0, 3, 4)
    return attended.reshape(rows, heads, blocks * block, width)[:, :, :length]


class CausalBlock(nn.Module):
    """Time attention, feed-forward, band attention, feed-forward."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.time_attention = TimeAttention(config)
        self.time_feed_forward = FeedForward(config.dim, config.expansion)
        self.band_attention = BandAttention(config)
        self.band_feed_forward = FeedForward(config.dim, config.expansion)

    def forward(self, x: Tensor, rotations: Tensor, look_ahead: int = 0) -> Tensor:
        return self._rest(self.time_attention(x, rotations, look_ahead))

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

    Stereo comes as mid and side. A band's input is the square roots of its bins' magnitudes, relative to the
    band's level, and that level itself (log energy of mid, side, left and right), which a norm alone would
    discard. The floor of -100 dB keeps rounding noise out of silent bands.
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
            GroupedLinear(group.bands, config.channels * group.width, config.dim) for group in self.groups
        )
        band_of_bin = torch.repeat_interleave(torch.arange(bands), torch.tensor(config.bands))
        share = F.one_hot(band_of_bin, bands).float() / torch.tensor(config.bands)
        self.register_buffer("band_of_bin", band_of_bin, persistent=False)
        self.register_buffer("membership", share / power, persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        batch, _, frames, _ = spectrum.shape
        planes = torch.cat([spectrum, mid_side(spectrum, 1)], dim=1) if self.channels == 2 else spectrum
        magnitudes = planes.abs()
        energies = magnitudes.square() @ self.membership
        level = energies[:, : self.channels].mean(1, keepdim=True) + self.FLOOR
        gain = (self.power * level).rsqrt().index_select(-1, self.band_of_bin)
        roots = (magnitudes[:, : self.channels] * gain).sqrt()
        rows = torch.cat([self._group(roots, g, net) for g, net in zip(self.groups, self.bins, strict=True)])
        levels = ((energies + self.FLOOR).log10() + 5) / 3
        rows += self.levels(levels.permute(3, 0, 2, 1).flatten(1, 2))
        return rows.view(-1, batch, frames, rows.shape[-1]).permute(1, 2, 0, 3)

    @staticmethod
    def _group(planes: Tensor, group: BandGroup, net: nn.Module) -> Tensor:
        """[batch, planes, spectral_frames, bins] -> [bands of the group, rows, dim]."""
        part = planes[..., group.first_bin : group.last_bin]
        part = torch.unflatten(part, -1, (group.bands, group.width)).permute(3, 0, 2, 1, 4)
        out: Tensor = net(part.reshape(group.bands, -1, planes.shape[1] * group.width))
        return out


class StemMasks(nn.Module):
    """Features -> real masks [batch, stems, channels, spectral_frames, bins].

    One hidden layer per band, computed for all stems in one product; then one small output layer per band
    and stem. Masks act on magnitudes (a model this small gains nothing from turning phases) and are shares:
    a softmax over the stems, so that a bin is given out once; at first all get the same share (a quarter of
    four stems: shares add up to 1 and cannot all be near a half). Of stereo they
    are masks of mid and side, which with the same knowledge separate voices better than those of left and
    right (benchmarks/mask_domains.py).
    """

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.groups, self.channels = band_groups(config.bands), config.channels
        self.stems = config.stems
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.hidden = GroupedLinear(len(config.bands), config.dim, config.stems * config.mask_hidden)
        self.outputs = nn.ModuleList(
            GroupedLinear(group.bands * config.stems, config.mask_hidden, config.channels * group.width)
            for group in self.groups
        )
        for output in self.outputs:
            output.weight.data.mul_(0.1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        hidden = self.hidden(self.norm(x).permute(2, 0, 1, 3).flatten(1, 2)).tanh()
        hidden = torch.unflatten(hidden, -1, (self.stems, -1)).transpose(1, 2)
        parts = [self._group(hidden, g, net) for g, net in zip(self.groups, self.outputs, strict=True)]
        masks = at_least_float32(torch.cat(parts, dim=-1)).softmax(0)
        return torch.unflatten(masks, 1, (batch, frames)).permute(1, 0, 3, 2, 4)

    def _group(self, hidden: Tensor, group: BandGroup, net: nn.Module) -> Tensor:
        """[bands, stems, rows, hidden] -> [stems, rows, channels, bins of the group]."""
        rows: Tensor = net(hidden[group.first_band : group.last_band].flatten(0, 1))
        rows = rows.view(group.bands, self.stems, -1, self.channels, group.width)
        return rows.permute(1, 2, 3, 0, 4).flatten(-2)
