"""Short-time spectra for effects: Hann windows of 1024 frames, a quarter apart."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from model.training.synth import Audio

WINDOW_FRAMES, HOP_FRAMES = 1024, 256
_WINDOW = np.hanning(WINDOW_FRAMES + 1)[:-1].astype(np.float32)


def spectra_of(sound: Audio) -> NDArray[np.complex64]:
    """[..., frames] -> [..., windows, bins]."""
    padded = np.pad(sound, [(0, 0)] * (sound.ndim - 1) + [(WINDOW_FRAMES, WINDOW_FRAMES)])
    windows = sliding_window_view(padded, WINDOW_FRAMES, axis=-1)[..., ::HOP_FRAMES, :]
    return np.fft.rfft(windows * _WINDOW).astype(np.complex64)


def sound_of(spectra: NDArray[np.complex64], frames: int) -> Audio:
    """The way back [..., windows, bins] -> [..., frames], by overlap-add."""
    windows = (np.fft.irfft(spectra) * _WINDOW).astype(np.float32)
    grid = np.zeros((*windows.shape[:-2], windows.shape[-2] + 3, HOP_FRAMES), dtype=np.float32)
    for part in range(4):
        blocks = windows[..., part * HOP_FRAMES : (part + 1) * HOP_FRAMES]
        grid[..., part : part + windows.shape[-2], :] += blocks
    sound = grid.reshape(*grid.shape[:-2], -1)[..., WINDOW_FRAMES : WINDOW_FRAMES + frames]
    return np.asarray(sound / np.float32(1.5), dtype=np.float32)
