"""BS-RoFormer (arXiv 2309.02612) in the key layout of the published checkpoints."""

import torch
from torch import Tensor, nn

from model.config import RoformerConfig
from model.layers import BandSplit, MaskEstimator, RMSNorm, RotaryEmbedding, Transformer
from model.stft import CentredSTFT


class BSRoformer(nn.Module):
    """Band-split RoFormer: a complex mask per stem from axial attention over time and bands.

    Audio is [batch, channels, frames]; spectra are complex [batch, channels, bins, spectral_frames].
    The STFT and the mask product stay in float32 (or float64) whatever the weights are.
    Threads: one at a time.
    """

    def __init__(self, config: RoformerConfig) -> None:
        super().__init__()
        self.config = config
        widths = tuple(2 * config.channels * bins for bins in config.bands)
        time_rotary, freq_rotary = RotaryEmbedding(config.dim_head), RotaryEmbedding(config.dim_head)
        sizes = (config.heads, config.dim_head)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Transformer(config.dim, config.time_depth, *sizes, time_rotary),
                    Transformer(config.dim, config.freq_depth, *sizes, freq_rotary),
                ]
            )
            for _ in range(config.depth)
        )
        self.final_norm = RMSNorm(config.dim)
        self.band_split = BandSplit(config.dim, widths)
        self.mask_estimators = nn.ModuleList(
            MaskEstimator(config.dim, widths, config.mask_depth, config.expansion)
            for _ in range(config.stems)
        )
        self._stft = CentredSTFT(config.n_fft, config.stft_hop_frames, config.win_frames)

    def stft(self, audio: Tensor) -> Tensor:
        """[batch, channels, frames] -> complex [batch, channels, bins, spectral_frames]."""
        spectrum: Tensor = self._stft(audio)
        return spectrum

    def mask(self, spectrum: Tensor) -> Tensor:
        """Complex masks [batch, stems, channels, bins, spectral_frames] for a spectrum."""
        weight = self.final_norm.gamma
        # Inside a frequency the channel is the fast index, real and imaginary part the fastest.
        bins = torch.view_as_real(spectrum).permute(0, 3, 2, 1, 4).flatten(2)
        x = self._transform(self.band_split(bins.to(weight.dtype)))
        masks = torch.stack([estimate(x) for estimate in self.mask_estimators], dim=1)
        masks = torch.unflatten(masks.to(spectrum.real.dtype), -1, (-1, self.config.channels, 2))
        return torch.view_as_complex(masks.permute(0, 1, 4, 3, 2, 5).contiguous())

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
            time_transformer, freq_transformer = block.children()
            x = sum(earlier, start=x)
            x = time_transformer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)
            x = freq_transformer(x.flatten(0, 1)).unflatten(0, (batch, -1))
            if self.config.skip_connection:
                earlier.append(x)
        out: Tensor = self.final_norm(x)
        return out
