"""Window, hop, look-ahead and fade as validated frame counts; the only unit conversions.

Threads: any; everything here is immutable.
"""

import math
from dataclasses import dataclass


class FramingError(ValueError):
    """Frame counts that do not fit together."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FramingError(message)


@dataclass(frozen=True)
class WindowedFraming:
    """Framing of a checkpoint on sliding windows.

    The window that ends at `e` contributes [e - A - X - H, e - A) with fades of X frames at both ends.

    Attributes
    ----------
    window_frames, hop_frames : window and H
    lookahead_frames : A, the newest frames of a window, never emitted
    fade_frames : X
    stft_hop_frames, fft_frames : of the checkpoint
    """

    window_frames: int
    hop_frames: int
    lookahead_frames: int
    fade_frames: int
    stft_hop_frames: int
    fft_frames: int = 2048

    def __post_init__(self) -> None:
        stft_hop = self.stft_hop_frames
        _require(
            1 <= stft_hop <= self.fft_frames, f"STFT hop of {stft_hop} frames: take 1 to {self.fft_frames}"
        )
        _require(self.hop_frames >= 1, f"hop of {self.hop_frames} frames: it must be at least 1")
        for name in ("hop", "lookahead", "fade"):
            frames = getattr(self, f"{name}_frames")
            _require(
                frames >= 0 and frames % stft_hop == 0,
                f"{name} of {frames} frames: it must be a multiple of the STFT hop {stft_hop}",
            )
        _require(
            self.fade_frames <= self.hop_frames,
            f"fade of {self.fade_frames} frames: it must not be longer than the hop of {self.hop_frames}",
        )
        # Centred STFT: the newest half FFT is reflection, and overlap-add spreads it over as much again.
        _require(
            self.lookahead_frames >= self.fft_frames,
            f"look-ahead of {self.lookahead_frames} frames: clean output needs {self.fft_frames} (FFT)",
        )
        _require(
            self.window_frames >= self.latency_frames,
            f"window of {self.window_frames} frames: look-ahead, fade and hop need {self.latency_frames}",
        )

    @property
    def latency_frames(self) -> int:
        """Algorithmic latency A + X + H."""
        return self.lookahead_frames + self.fade_frames + self.hop_frames


def frames_to_ms(frames: float, sample_rate_hz: float) -> float:
    """Milliseconds that `frames` last."""
    return 1000.0 * frames / sample_rate_hz


def ms_to_frames(milliseconds: float, sample_rate_hz: float) -> int:
    """The nearest whole number of frames."""
    return round(milliseconds * sample_rate_hz / 1000.0)


def db_to_gain(db: float) -> float:
    """Amplitude ratio; -inf dB is 0."""
    return float(10.0 ** (db / 20.0))


def gain_to_db(gain: float) -> float:
    """Decibels of an amplitude ratio >= 0; 0 is -inf dB."""
    return 20.0 * math.log10(gain) if gain > 0.0 else -math.inf
