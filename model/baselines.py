"""What a score is read beside: filters that need no model, and masks that know the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.filters import band, filtered

Audio = NDArray[np.float32]
Bins = NDArray[np.float64]

BANDS_HZ = {"vocals": (150.0, 7000.0), "bass": (30.0, 250.0)}
WINDOW_FRAMES, HOP_FRAMES = 2048, 512
LEAST_MAGNITUDE = 1e-8


def band_pass(mixture: Audio, stem: str, rate_hz: int) -> Audio | None:
    """The band of the mixture [channels, frames] where a stem mostly is; None where no band describes it.

    Threads: any.
    """
    return band(mixture, *BANDS_HZ[stem], rate_hz) if stem in BANDS_HZ else None


def less_scaled(mixture: Audio, part: Audio, wanted: Audio) -> Audio:
    """The mixture less `part`, scaled so that the least error to `wanted` is left; all [channels, frames].

    The scale knows the truth, which no plain subtraction does: a baseline that is at its best. Threads: any.
    """
    energy = float(np.vdot(part, part))
    scale = float(np.vdot(part, mixture - wanted)) / energy if energy > 0 else 0.0
    return mixture - np.float32(scale) * part


@dataclass(frozen=True)
class Likeness:
    """How a stem and its mixture lie in the spectrum of one song, [bins] each, relative to the mixture's
    energy: their cross-spectrum's real part and the mixture's power."""

    cross: Bins
    power: Bins


def likeness(mixture: Audio, stem: Audio) -> Likeness:
    """Of one song, both [channels, frames]; what `static_eq` is fitted to. Threads: any."""
    cross, power = np.zeros(WINDOW_FRAMES // 2 + 1), np.zeros(WINDOW_FRAMES // 2 + 1)
    for line, part in zip(mixture, stem, strict=True):
        mixed = _spectrum(line)
        cross += (_spectrum(part) * mixed.conj()).real.sum(dim=-1).double().numpy()
        power += mixed.abs().square_().sum(dim=-1).double().numpy()
    energy = max(float(power.sum()), LEAST_MAGNITUDE)
    return Likeness(cross / energy, power / energy)


def static_eq(songs: Sequence[Likeness]) -> Bins:
    """Gains [bins] of the fixed equaliser that makes a stem of a mixture with the least error in the mean.

    Fitted on songs whose stems are known, every one with the same weight: E[Re(S M*)] / E[|M|^2] in every
    bin of an STFT of 2048, at least 0 (the Wiener filter that never moves). **Never fit it on the song that
    it is scored on**: leave that one out. Threads: any.
    """
    cross = np.sum([song.cross for song in songs], axis=0)
    power = np.sum([song.power for song in songs], axis=0)
    gains: Bins = np.maximum(cross, 0.0) / np.maximum(power, np.finfo(np.float64).tiny)
    return gains


def equalised(mixture: Audio, gains: Bins, rate_hz: int) -> Audio:
    """The mixture [channels, frames] through an equaliser of `static_eq`, zero-phase. Threads: any."""
    hz: Bins = np.fft.rfftfreq(WINDOW_FRAMES, 1.0 / rate_hz)[1:].astype(np.float64)
    return filtered(mixture, gains[1:], hz, rate_hz)


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
