"""How a published model hears live sound: windows, what each contributes, and when that is final."""

from dataclasses import dataclass
from typing import Self

from model.config import CausalConfig, ConfigError, RoformerConfig


@dataclass(frozen=True)
class WindowFraming:
    """Window k ends at e and contributes [e - A - X - H, e - A), X frames of it faded into the next.

    Frames at the model's rate: the window, the hop H, the look-ahead A and the fade X. Algorithmic latency
    A + X + H. Raises ConfigError, through `check`, where a model cannot be run so.
    """

    window_frames: int
    hop_frames: int
    look_ahead_frames: int
    fade_frames: int

    @property
    def latency_frames(self) -> int:
        return self.look_ahead_frames + self.fade_frames + self.hop_frames

    @property
    def contribution(self) -> tuple[int, int]:
        """First frame and end, inside the window, of what it contributes."""
        return self.window_frames - self.latency_frames, self.window_frames - self.look_ahead_frames

    def check(self, config: RoformerConfig | CausalConfig) -> Self:
        """The framing itself, if `config` can be run so."""
        stft_hop, n_fft, newest = config.stft_hop_frames, config.n_fft, config.least_look_ahead_frames
        for name in ("window", "hop", "look_ahead", "fade"):
            frames = getattr(self, f"{name}_frames")
            if frames < 1 or frames % stft_hop:
                raise ConfigError(
                    f"a {name} of {frames} frames: take a multiple of the STFT hop of {stft_hop}"
                )
        longest = config.longest_window_frames
        if self.window_frames > longest:
            raise ConfigError(f"a window of {self.window_frames} frames: this model takes {longest} or less")
        if self.fade_frames > self.hop_frames:
            raise ConfigError(
                f"a fade of {self.fade_frames} frames is longer than the hop of {self.hop_frames}; shorten it"
            )
        if self.look_ahead_frames < newest:
            raise ConfigError(
                f"a look-ahead of {self.look_ahead_frames} frames: the newest {newest} are not clean yet"
            )
        if self.window_frames < self.latency_frames + n_fft:
            raise ConfigError(
                f"a window of {self.window_frames} frames: {self.latency_frames + n_fft} or more are needed"
            )
        return self


PROFILES = {
    "gpu": WindowFraming(88_200, 1764, 2205, 441),
    "studio": WindowFraming(176_400, 4410, 4410, 441),
}
"""For an STFT hop of 441 frames; other models take the nearest multiples of theirs."""


def framing_for(config: RoformerConfig | CausalConfig, choice: str) -> WindowFraming:
    """The framing that `choice` names: a profile, or WINDOW/HOP/LOOK-AHEAD/FADE in frames of the model.

    Raises ConfigError for a name that is neither and for a framing that the model cannot take.
    """
    if choice in PROFILES:
        return _fitted(PROFILES[choice], config).check(config)
    try:
        window, hop, look_ahead, fade = (int(part) for part in choice.split("/"))
    except ValueError:
        known = ", ".join(PROFILES)
        raise ConfigError(
            f"{choice!r:.60} is no framing: take {known} or frames like 88200/1764/2205/441"
            " (window/hop/look-ahead/fade)"
        ) from None
    return WindowFraming(window, hop, look_ahead, fade).check(config)


def _fitted(framing: WindowFraming, config: RoformerConfig | CausalConfig) -> WindowFraming:
    """A profile in multiples of the model's STFT hop; the look-ahead is long enough to be clean."""
    stft_hop = config.stft_hop_frames

    def nearest(frames: int) -> int:
        return max(1, round(frames / stft_hop)) * stft_hop

    look_ahead = max(framing.look_ahead_frames, config.least_look_ahead_frames)
    return WindowFraming(
        nearest(framing.window_frames),
        nearest(framing.hop_frames),
        -(-look_ahead // stft_hop) * stft_hop,
        nearest(framing.fade_frames),
    )
