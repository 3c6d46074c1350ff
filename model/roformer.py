"""The published band-split RoFormers in the key layout of their checkpoints.

BS-RoFormer: arXiv 2309.02612; Mel-Band RoFormer: arXiv 2310.01809.
"""

import itertools
from collections import Counter

import torch
from torch import Tensor, nn

from model.config import RoformerConfig
from model.layers import (
    ALL,
    Attention,
    BandSplit,
    LinearAttention,
    MaskEstimator,
    MaskEstimators,
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
        bands = (config.band_bins, config.channels)
        self.band_split: nn.Module = BandSplit(config.dim, *bands)
        self.mask_estimators: nn.Module = MaskEstimators(
            MaskEstimator(config.dim, *bands, config.mask_linears, config.expansion)
            for _ in range(config.stems)
        )
        time_rotary, freq_rotary = RotaryEmbedding(config.dim_head), RotaryEmbedding(config.dim_head)
        self.layers = nn.ModuleList(self._block(time_rotary, freq_rotary) for _ in range(config.depth))
        self._rotary = (time_rotary, freq_rotary)  # a plain tuple: their place is under every attention
        self._stft = CentredSTFT(config.n_fft, config.stft_hop_frames, config.win_frames)

    def stft(self, audio: Tensor) -> Tensor:
        """[batch, channels, frames] -> complex [batch, channels, bins, spectral_frames]."""
        spectrum: Tensor = self._stft(audio)
        return spectrum

    def mask(self, spectrum: Tensor, asked: slice = ALL) -> Tensor:
        """Complex masks [batch, stems, channels, bins, spectral frames asked for] of a whole spectrum.

        What only the other frames need is left out; the values are the same.
        """
        channels, bins = spectrum.shape[1:3]
        # Inside a frequency the channel is the fast index, real and imaginary part the fastest.
        values = torch.view_as_real(spectrum).permute(0, 3, 2, 1, 4).flatten(2)
        x = self._transform(self.band_split(values).to(values.dtype), asked)
        sums = self.mask_estimators(x)
        masks = torch.view_as_complex(sums.view(*sums.shape[:-1], bins, channels, 2))
        return self._average(masks.permute(0, 1, 4, 3, 2))

    def forward(self, audio: Tensor) -> Tensor:
        """[batch, channels, frames] -> [batch, stems, channels, frames]."""
        return self._stft.inverse(self._stems(self.stft(audio)), audio.shape[-1])

    def part(self, audio: Tensor, start: int, end: int) -> Tensor:
        """`forward(audio)[..., start:end]`, for less work and without asking the host anything."""
        spectrum = self.stft(audio)
        asked = self._stft.covering(start, end, spectrum.shape[-1])
        return self._stft.inverse_part(self._stems(spectrum, asked), asked.start, start, end)

    def _stems(self, spectrum: Tensor, asked: slice = ALL) -> Tensor:
        """Spectra [batch, stems, channels, bins, spectral frames asked for]."""
        stems = spectrum[..., asked].unsqueeze(1) * self.mask(spectrum, asked)
        if self.config.zero_dc:
            stems[..., 0, :] = 0
        return stems

    def _transform(self, x: Tensor, asked: slice) -> Tensor:
        """[batch, spectral_frames, bands, dim] -> [batch, spectral frames asked for, bands, dim]."""
        batch, frames, bands = x.shape[:3]
        time_rotations, freq_rotations = (
            rotary(positions, x.dtype)
            for rotary, positions in zip(self._rotary, (frames, bands), strict=True)
        )
        earlier: list[Tensor] = []
        for index, block in enumerate(self.layers, 1):
            *linear, time_transformer, freq_transformer = block.children()
            for transformer in linear:
                x = transformer(x.flatten(1, 2)).view(x.shape)
            x = sum(earlier, start=x)
            rows = x.transpose(1, 2).flatten(0, 1)
            now = asked if index == len(self.layers) else ALL
            x = time_transformer(rows, time_rotations, asked=now)
            x = torch.unflatten(x, 0, (batch, -1)).transpose(1, 2)
            x = freq_transformer(x.flatten(0, 1), freq_rotations).unflatten(0, (batch, -1))
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
        return nn.Identity()

    def _average(self, masks: Tensor) -> Tensor:
        """From sums over the bands that hold a bin [..., bins, spectral_frames] to masks."""
        return masks


class BSRoformer(Roformer):
    """Bands side by side; one norm after the last block."""

    def __init__(self, config: RoformerConfig) -> None:
        super().__init__(config)
        self.final_norm = RMSNorm(config.dim)


class MelBandRoformer(Roformer):
    """Overlapping mel bands, whose masks are averaged; a norm after every transformer."""

    shares: Tensor

    def __init__(self, config: RoformerConfig) -> None:
        super().__init__(config)
        holders = Counter(itertools.chain.from_iterable(config.band_bins))
        shares = torch.tensor([1 / holders[index] for index in range(len(holders))])
        self.register_buffer("shares", shares, persistent=False)

    def _block_norm(self) -> nn.Module:
        return RMSNorm(self.config.dim)

    def _average(self, masks: Tensor) -> Tensor:
        return masks * self.shares[:, None]


def build(config: RoformerConfig) -> BSRoformer | MelBandRoformer:
    """The network that a configuration names, with random weights. Threads: any."""
    return BSRoformer(config) if config.architecture == "bs" else MelBandRoformer(config)
