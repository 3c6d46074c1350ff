"""The published band-split RoFormers in the key layout of their checkpoints.

BS-RoFormer: arXiv 2309.02612; Mel-Band RoFormer: arXiv 2310.01809.
"""

import torch
from torch import Tensor, nn

from model.config import RoformerConfig
from model.layers import (
    Attention,
    BandBins,
    BandSplit,
    LinearAttention,
    MaskEstimator,
    RMSNorm,
    RotaryEmbedding,
    Transformer,
)
from model.stft import CentredSTFT


class Roformer(nn.Module):
    """What both architectures share: a complex mask per stem from axial attention over time and bands.

    Audio is [batch, channels, frames]; spectra are complex [batch, channels, bins, spectral_frames].
    The STFT and the mask product stay in float32 (or float64) whatever the weights are.
    Threads: one at a time.
    """

    def __init__(self, config: RoformerConfig) -> None:
        super().__init__()
        self.config = config
        self.final_norm: nn.Module = nn.Identity()
        widths = tuple(2 * config.channels * len(bins) for bins in config.band_bins)
        self.band_split = BandSplit(config.dim, widths)
        self.mask_estimators = nn.ModuleList(
            MaskEstimator(config.dim, widths, config.mask_linears, config.expansion)
            for _ in range(config.stems)
        )
        time_rotary, freq_rotary = RotaryEmbedding(config.dim_head), RotaryEmbedding(config.dim_head)
        self.layers = nn.ModuleList(self._block(time_rotary, freq_rotary) for _ in range(config.depth))
        self._stft = CentredSTFT(config.n_fft, config.stft_hop_frames, config.win_frames)
        self._bins = BandBins(config.band_bins)

    def stft(self, audio: Tensor) -> Tensor:
        """[batch, channels, frames] -> complex [batch, channels, bins, spectral_frames]."""
        spectrum: Tensor = self._stft(audio)
        return spectrum

    def mask(self, spectrum: Tensor) -> Tensor:
        """Complex masks [batch, stems, channels, bins, spectral_frames] for a spectrum."""
        weight = next(self.band_split.parameters())
        # Inside a frequency the channel is the fast index, real and imaginary part the fastest.
        bins = self._bins.take(torch.view_as_real(spectrum).permute(0, 3, 2, 1, 4)).flatten(2)
        x = self._transform(self.band_split(bins.to(weight.dtype)))
        masks = torch.stack([estimate(x) for estimate in self.mask_estimators], dim=1)
        masks = torch.unflatten(masks.to(spectrum.real.dtype), -1, (-1, self.config.channels, 2))
        return torch.view_as_complex(self._bins.average(masks).permute(0, 1, 4, 3, 2, 5).contiguous())

    def forward(self, audio: Tensor) -> Tensor:
        """[batch, channels, frames] -> [batch, stems, channels, frames]."""
        spectrum = self.stft(audio)
        stems = spectrum.unsqueeze(1) * self.mask(spectrum)
        if self.config.zero_dc:
            stems = stems.index_fill(-2, torch.zeros(1, dtype=torch.long, device=stems.device), 0)
        return self._stft.inverse(stems, audio.shape[-1])

    def _transform(self, x: Tensor) -> Tensor:
        """[batch, spectral_frames, bands, dim], the same shape out."""
        batch = x.shape[0]
        earlier: list[Tensor] = []
        for block in self.layers:
            *linear, time_transformer, freq_transformer = block.children()
            for transformer in linear:
                x = transformer(x.flatten(1, 2)).view(x.shape)
            x = sum(earlier, start=x)
            x = time_transformer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)
            x = freq_transformer(x.flatten(0, 1)).unflatten(0, (batch, -1))
            if self.config.skip_connection:
                earlier.append(x)
        out: Tensor = self.final_norm(x)
        return out

    def _block(self, time_rotary: RotaryEmbedding, freq_rotary: RotaryEmbedding) -> nn.ModuleList:
        """Transformers over everything (only where linear_depth says so), time, and bands."""
        config = self.config
        sizes = (config.dim, config.heads, config.dim_head)
        linear = [LinearAttention(*sizes) for _ in range(config.linear_depth)]
        time = [Attention(*sizes, time_rotary) for _ in range(config.time_depth)]
        freq = [Attention(*sizes, freq_rotary) for _ in range(config.freq_depth)]
        stacks = [stack for stack in (linear, time, freq) if stack]
        return nn.ModuleList(Transformer(config.dim, stack, self._block_norm()) for stack in stacks)

    def _block_norm(self) -> nn.Module:
        """What ends every transformer."""
        raise NotImplementedError


class BSRoformer(Roformer):
    """Bands side by side; one norm after the last block."""

    def __init__(self, config: RoformerConfig) -> None:
        super().__init__(config)
        self.final_norm = RMSNorm(config.dim)

    def _block_norm(self) -> nn.Module:
        return nn.Identity()


class MelBandRoformer(Roformer):
    """Overlapping mel bands, whose masks are averaged; a norm after every transformer."""

    def _block_norm(self) -> nn.Module:
        return RMSNorm(self.config.dim)


def build(config: RoformerConfig) -> BSRoformer | MelBandRoformer:
    """The network that a configuration names, with random weights. Threads: any."""
    return BSRoformer(config) if config.architecture == "bs" else MelBandRoformer(config)
