"""The training loss: L1 of waveform and complex spectra, on those stems or sums of stems that are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEM_WEIGHTS = (0.4, 0.25, 0.2, 0.15)
"""Vocals, drums, bass, other."""


@dataclass(frozen=True)
class SpectralWindows:
    """STFT sizes of the loss; the hop is a quarter of each window unless one is given for all."""

    windows: tuple[int, ...]
    hop_frames: int | None = None


CHEAP = SpectralWindows((2048, 512))
"""A fraction of the published loss's cost: meant for CPUs."""

PUBLISHED = SpectralWindows((4096, 2048, 1024, 512, 256), hop_frames=147)
"""As in arXiv 2309.02612."""

LOSSES = {"cheap": CHEAP, "published": PUBLISHED}


def stem_groups(split: Tensor) -> tuple[Tensor, Tensor]:
    """What is compared for each item: sums of stems [batch, 4 groups, 4 stems] and weights [batch, 4].

    A split item compares every stem; one that is not compares vocals and the sum of the others.
    """
    weights = torch.tensor(STEM_WEIGHTS, device=split.device)
    each = torch.eye(4, device=split.device)
    merged = torch.zeros(4, 4, device=split.device)
    merged[0, 0] = 1.0
    merged[3, 1:] = 1.0
    groups = torch.where(split[:, None, None], each, merged)
    return groups, groups @ weights


def spectral_error(error: Tensor, settings: SpectralWindows) -> Tensor:
    """Mean magnitude of the STFTs of an error [..., frames], summed over the windows: [...].

    The STFT is linear, so the spectrum of the error is the error of the spectrum at half the cost.
    """
    flat = error.reshape(-1, error.shape[-1])
    total = torch.zeros(flat.shape[0], device=error.device)
    for size in settings.windows:
        spectrum = torch.stft(
            flat, size, settings.hop_frames or size // 4, window=torch.hann_window(size, device=error.device),
            normalized=True, return_complex=True,
        )  # fmt: skip
        total = total + torch.view_as_real(spectrum).square().sum(-1).add(1e-8).sqrt().mean((-2, -1))
    return total.reshape(error.shape[:-1])


def separation_loss(estimate: Tensor, stems: Tensor, split: Tensor, settings: SpectralWindows) -> Tensor:
    """Loss of estimates [batch, 4, channels, frames] against stems, `split` [batch] bool: a scalar.

    Relative to the level of each mixture, so that quiet items teach as much as loud ones.
    Threads: any.
    """
    groups, weights = stem_groups(split)
    level = stems.sum(1).square().mean((1, 2)).sqrt().clamp_min(1e-3)
    error = torch.einsum("bgs,bscf->bgcf", groups, estimate - stems) / level[:, None, None, None]
    per_group = error.abs().mean((2, 3)) + spectral_error(error, settings).mean(2)
    return (per_group * weights).sum(1).mean()
