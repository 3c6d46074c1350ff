"""The one contract between the engine and whatever turns a window into stems."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]

STANDARD_STEMS = ("vocals", "drums", "bass", "other")
SIGNATURE_PERIOD_HOPS = 1024


class Separator(Protocol):
    """A stage that is given the newest window every hop and returns that hop's stems.

    With `e` the end of the window, the stems returned are those of the absolute frames
    `[e - latency_frames, e - latency_frames + hop_frames)`, and whatever more `stems_out` holds is the
    fade that the next hop's contribution is cross-faded with.

    Threads: every method is called from the one thread that runs the worker.
    """

    sample_rate_hz: int
    window_frames: int
    hop_frames: int
    latency_frames: int
    stem_names: tuple[str, ...]

    def warm_up(self) -> None:
        """Allocate, plan and capture; afterwards nothing grows."""

    def reset(self) -> None:
        """Forget all past audio, in place."""

    def separate(self, mixture: Audio, stems_out: Audio) -> None:
        """Turn `mixture` [channels, window_frames] into `stems_out` [stems, channels, hop_frames + fade].

        Both arrays belong to the caller. Non-finite input counts as 0.
        """

    def close(self) -> None:
        """Give back what `warm_up` took."""


def fade_frames(separator: Separator) -> int:
    """Frames by which each contribution overlaps the next (0 for a separator that overlap-adds itself)."""
    return int(getattr(separator, "fade_frames", 0))


class SignatureSeparator:
    """A separator whose output tells exactly what went through it: tests and `--model signature` use it.

    Every stem is the input times 0.5, delayed like a real model's; the last stem carries the number of the
    hop since the last reset as the constant `(k % 1024 + 1) / 2048` instead. An identity separator beside a
    dry fallback would pass a test while dead; this one cannot. The latency is a hop or more.

    Threads: as `Separator`.
    """

    def __init__(
        self,
        sample_rate_hz: int = 44100,
        stem_names: tuple[str, ...] = STANDARD_STEMS,
        hop_frames: int = 441,
        latency_frames: int = 882,
        channels: int = 2,
    ) -> None:
        if latency_frames < hop_frames:
            raise ValueError(f"latency of {latency_frames} frames: take the hop of {hop_frames} or more")
        self.sample_rate_hz = sample_rate_hz
        self.stem_names = stem_names
        self.hop_frames = self.window_frames = hop_frames
        self.latency_frames = latency_frames
        self._past = np.zeros((channels, latency_frames), np.float32)
        self._hops = 0

    def warm_up(self) -> None:
        """Nothing to prepare but silence."""
        self.reset()

    def reset(self) -> None:
        """Start again from silence and hop 0."""
        self._past[:] = 0.0
        self._hops = 0

    def separate(self, mixture: Audio, stems_out: Audio) -> None:
        """The input of `latency_frames` ago times 0.5, and the hop's number as the last stem."""
        clean = np.nan_to_num(mixture, copy=True, nan=0.0, posinf=0.0, neginf=0.0)
        line = np.concatenate([self._past, clean], axis=1)
        delayed = line[:, self.hop_frames : 2 * self.hop_frames]
        np.multiply(delayed[None], np.float32(0.5), out=stems_out[:-1])
        stems_out[-1] = (self._hops % SIGNATURE_PERIOD_HOPS + 1) / (2 * SIGNATURE_PERIOD_HOPS)
        self._past[:] = line[:, self.hop_frames :]
        self._hops += 1

    def close(self) -> None:
        """Nothing was taken."""
