"""What a score is read beside: a band-pass that needs no model, and masks that know the truth."""

import numpy as np
import torch
from numpy.typing import NDArray

from model.filters import band

Audio = NDArray[np.float32]

BANDS_HZ = {"vocals": (150.0, 7000.0), "bass": (30.0, 250.0)}
WINDOW_FRAMES, HOP_FRAMES = 2048, 512
LEAST_MAGNITUDE = 1e-8


def band_pass(mixture: Audio, stem: str, rate_hz: int) -> Audio | None:
    """The band of the mixture [channels, frames] where a stem mostly is; None where no band describes it.

    Threads: any.
    """
    return band(mixture, *BANDS_HZ[stem], rate_hz) if stem in BANDS_HZ else None


def ideal_ratio_masks(mixture: Audio, sources: Audio) -> Audio:
    """The mixture [channels, frames] through masks |S_i| / sum_j |S_j| of its sources [sources, ...].

    Magnitudes of an STFT of 2048/512 (Liutkus and Badeau, ICASSP 2015, with exponent 1). One channel and
    source at a time, so a whole song fits into memory: [sources, channels, frames]. Threads: any.
    """
    estimates = np.empty_like(sources)
    for channel, line in enumerate(mixture):
        mixed = _spectrum(line)
        total = sum(_spectrum(source[channel]).abs() for source in sources)
        scale = torch.as_tensor(total).clamp_min(LEAST_MAGNITUDE).reciprocal_()
        for index, source in enumerate(sources):
            masked = _spectrum(source[channel]).abs().mul_(scale) * mixed
            estimates[index, channel] = _signal(masked, line.shape[0])
    return estimates


def _spectrum(line: Audio) -> torch.Tensor:
    audio = torch.from_numpy(np.ascontiguousarray(line))
    window = torch.hann_window(WINDOW_FRAMES)
    return torch.stft(
        audio, WINDOW_FRAMES, HOP_FRAMES, window=window, pad_mode="constant", return_complex=True
    )


def _signal(spectrum: torch.Tensor, frames: int) -> Audio:
    window = torch.hann_window(WINDOW_FRAMES)
    audio: Audio = torch.istft(spectrum, WINDOW_FRAMES, HOP_FRAMES, window=window, length=frames).numpy()
    return audio
