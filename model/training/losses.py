"""Training losses, on those stems or sums of stems that are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEM_WEIGHTS = (0.55, 0.16, 0.18, 0.11)
"""Vocals, drums, bass, other. The accompaniment's error is that of the vocals, so theirs counts for both."""

SILENCE = 10.0**-1.0
"""A stem this far below its mixture counts as silent: what then matters is how much leaks into it. Over a
whole song it matters little against a heard voice, which at -25 dB was rather left out than risked."""

CEILING = 10.0**-0.3
"""Beyond this ratio of error to signal an item teaches little more. At -25 dB the loss gained most where it
was good already, and would rather be wholly right half of the time than half right always; scores of whole
songs add up errors, not dB, which a high ceiling comes near to."""

PUBLISHED_WINDOWS = (4096, 2048, 1024, 512, 256)
PUBLISHED_HOP_FRAMES = 147
"""STFT sizes and hop of arXiv 2309.02612."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(error, truth, mixture) [batch, groups or 1, channels, frames] -> loss [batch, groups]."""


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


def energy(audio: Tensor) -> Tensor:
    return audio.square().sum((-2, -1))


def snr_loss(error: Tensor, truth: Tensor, mixture: Tensor) -> Tensor:
    """Error over signal in dB, softly limited at both ends (after arXiv 1911.08895 and 2011.00803).

    It weighs a quiet stem as much as a loud one, where an L1 would let quiet voices vanish; and its optimum
    under uncertainty is the mean, not the median, of what could be there.
    """
    floor = SILENCE * energy(mixture) + 1e-8
    return 10.0 * torch.log10(energy(error) / (energy(truth) + floor) + CEILING)


def spectral_error(error: Tensor) -> Tensor:
    """Mean magnitude of the STFTs of an error [..., frames], summed over the published windows: [...].

    STFTs are not normalised, as in the reference implementation, so they far outweigh the waveform.
    The STFT is linear, so the spectrum of the error is the error of the spectrum at half the cost.
    """
    flat = error.reshape(-1, error.shape[-1])
    total = torch.zeros(flat.shape[0], device=error.device)
    for size in PUBLISHED_WINDOWS:
        spectrum = torch.stft(
            flat, size, PUBLISHED_HOP_FRAMES,
            window=torch.hann_window(size, device=error.device), return_complex=True,
        )  # fmt: skip
        total = total + torch.view_as_real(spectrum).square().sum(-1).add(1e-8).sqrt().mean((-2, -1))
    return total.reshape(error.shape[:-1])


def published_loss(error: Tensor, truth: Tensor, mixture: Tensor) -> Tensor:
    """L1 of waveform and five complex STFTs (arXiv 2309.02612), relative to the mixture's level."""
    error = error / mixture.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(1e-3)
    return error.abs().mean((-2, -1)) + spectral_error(error).mean(-1)


LOSSES: dict[str, Loss] = {"snr": snr_loss, "published": published_loss}


def separation_loss(estimate: Tensor, stems: Tensor, split: Tensor, loss: Loss) -> Tensor:
    """Loss of estimates [batch, 4, channels, frames] against stems, `split` [batch] bool: a scalar.

    Threads: any.
    """
    groups, weights = stem_groups(split)
    error, truth = (torch.einsum("bgs,bscf->bgcf", groups, t) for t in (estimate - stems, stems))
    return (loss(error, truth, stems.sum(1, keepdim=True)) * weights).sum(1).mean()
