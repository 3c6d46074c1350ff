"""The published architectures written out plainly, weight by weight; for options that the oracle lacks."""

import torch
from torch import Tensor

from model.config import RoformerConfig

Weights = dict[str, Tensor]


def norm(x: Tensor, gamma: Tensor) -> Tensor:
    length = x.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)
    return x / length * x.shape[-1] ** 0.5 * gamma


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()))


def rotated(x: Tensor, freqs: Tensor) -> Tensor:
    """[positions, dim_head]."""
    out = torch.empty_like(x)
    for position, row in enumerate(x):
        angle = position * freqs
        even, odd = row[0::2], row[1::2]
        out[position, 0::2] = even * angle.cos() - odd * angle.sin()
        out[position, 1::2] = odd * angle.cos() + even * angle.sin()
    return out


def attention(x: Tensor, weights: Weights, name: str, heads: int) -> Tensor:
    """[positions, dim]."""
    x = norm(x, weights[f"{name}.norm.gamma"])
    q, k, v = linear(x, weights, f"{name}.to_qkv").unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
    gates = linear(x, weights, f"{name}.to_gates").sigmoid()
    freqs = weights[f"{name}.rotary_embed.freqs"].to(x.dtype)
    out = []
    for head in range(heads):
        scores = rotated(q[head], freqs) @ rotated(k[head], freqs).T / q.shape[-1] ** 0.5
        out.append(scores.softmax(-1) @ v[head] * gates[:, head, None])
    return linear(torch.cat(out, -1), weights, f"{name}.to_out.0")


def linear_attention(x: Tensor, weights: Weights, name: str, heads: int) -> Tensor:
    """[positions, dim]; features attend to features, softmax(8 exp(temperature) q k^T) v."""
    x = norm(x, weights[f"{name}.norm.gamma"])
    q, k, v = linear(x, weights, f"{name}.to_qkv.0").unflatten(-1, (3, heads, -1)).permute(1, 2, 3, 0)
    out = []
    for head in range(heads):
        unit_q, unit_k = (t[head] / t[head].norm(dim=-1, keepdim=True).clamp_min(1e-12) for t in (q, k))
        scores = 8 * weights[f"{name}.temperature"][head, 0, 0].exp() * unit_q @ unit_k.T
        out.append((scores.softmax(-1) @ v[head]).T)
    return linear(torch.cat(out, -1), weights, f"{name}.to_out.1")


def feed_forward(x: Tensor, weights: Weights, name: str) -> Tensor:
    hidden = linear(norm(x, weights[f"{name}.net.0.gamma"]), weights, f"{name}.net.1")
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return linear(gelu, weights, f"{name}.net.4")


def transformer(x: Tensor, weights: Weights, name: str, depth: int, heads: int) -> Tensor:
    """[positions, dim]."""
    for layer in range(depth):
        part = f"{name}.layers.{layer}"
        attend = linear_attention if f"{part}.0.temperature" in weights else attention
        x = attend(x, weights, f"{part}.0", heads) + x
        x = feed_forward(x, weights, f"{part}.1") + x
    gamma = weights.get(f"{name}.norm.gamma")
    return x if gamma is None else norm(x, gamma)


def transform(x: Tensor, weights: Weights, config: RoformerConfig) -> Tensor:
    """Features [spectral_frames, bands, dim] through all blocks."""
    earlier: list[Tensor] = []
    for block in range(config.depth):
        names = [f"layers.{block}.{place}" for place in range(3)]
        if config.linear_depth:
            flat = transformer(x.flatten(0, 1), weights, names.pop(0), config.linear_depth, config.heads)
            x = flat.view(x.shape)
        x = x + sum(earlier)
        rows = [transformer(row, weights, names[0], config.time_depth, config.heads) for row in x.unbind(1)]
        x = torch.stack(rows, 1)
        rows = [transformer(row, weights, names[1], config.freq_depth, config.heads) for row in x]
        x = torch.stack(rows)
        if config.skip_connection:
            earlier.append(x)
    return norm(x, weights["final_norm.gamma"]) if "final_norm.gamma" in weights else x


def mask(spectrum: Tensor, weights: Weights, config: RoformerConfig) -> Tensor:
    """[channels, bins, spectral_frames] -> [stems, channels, bins, spectral_frames]."""
    values = torch.view_as_real(spectrum).permute(2, 1, 0, 3)
    split = []
    for band, bins in enumerate(config.band_bins):
        name = f"band_split.to_features.{band}"
        part = norm(values[:, list(bins)].flatten(1), weights[f"{name}.0.gamma"])
        split.append(linear(part, weights, f"{name}.1"))
    x = transform(torch.stack(split, 1), weights, config)
    sums = torch.zeros(config.stems, *values.shape, dtype=values.dtype)
    counts = torch.zeros(values.shape[1], 1, 1, dtype=values.dtype)
    for band, bins in enumerate(config.band_bins):
        counts[list(bins)] += 1
        for stem in range(config.stems):
            hidden = x[:, band]
            for place in range(config.mask_linears):
                hidden = hidden.tanh() if place else hidden
                hidden = linear(hidden, weights, f"mask_estimators.{stem}.to_freqs.{band}.0.{2 * place}")
            value, gate = hidden.chunk(2, -1)
            sums[stem][:, list(bins)] += (value * gate.sigmoid()).unflatten(-1, (-1, config.channels, 2))
    return torch.view_as_complex((sums / counts).permute(0, 3, 2, 1, 4).contiguous())
