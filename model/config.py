"""Model configurations: frozen, validated when made, to and from plain JSON values."""

import itertools
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NoReturn, Self

from model.bands import BS_BANDS, CAUSAL_BANDS, mel_band_bins

LARGEST_N_FFT = 1 << 16
LONGEST_WINDOW_S = 30
"""Beyond what any published model was trained on; attention grows with the square of it."""
WHOLE_SIGNAL = -1
"""The look-ahead of a first time layer that sees everything; whole signals only."""


class ConfigError(ValueError):
    """A configuration that no model of this project can have; one line says what and why."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        whole = isinstance(value, int) and value > 0
        _require(whole, f"{name} must be a whole number above 0, not {value!r}")


def _require_bands(bands: tuple[int, ...], n_fft: int) -> None:
    bins = n_fft // 2 + 1
    _require(all(width > 0 for width in bands), "bands must each be at least one bin wide")
    _require(sum(bands) == bins, f"bands cover {sum(bands)} bins, but an STFT of {n_fft} has {bins}")


def _require_stems(names: Any) -> None:
    """Stems name files, also where upper and lower case are one; the rest of a mix is called residual."""
    plain = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
    _require(plain, f"stem_names must be a list of names, not {names!r:.80}")
    lowered = [name.lower() for name in names]
    _require(len(set(lowered)) == len(lowered) > 0, "stem_names must be different names")
    _require("residual" not in lowered, "no stem may be called residual: that is what all stems leave over")


def _named(look_ahead: int) -> str:
    """A look-ahead as it is written behind the @ of a model's name."""
    return "all" if look_ahead == WHOLE_SIGNAL else f"{look_ahead!r:.40}"


class _JsonConfig:
    """Round trip through plain JSON values for frozen dataclasses of numbers and tuples."""

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        _require(not unknown, f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class RoformerConfig(_JsonConfig):
    """A published RoFormer. Frame counts are at the sample rate of the checkpoint.

    `architecture` is "bs" (bands side by side, `bands` in STFT bins each) or "mel" (`mel_bands` overlapping
    bands). `mask_depth` is a YAML's mask_estimator_depth; see `mask_linears`. `linear_depth` is the depth of
    the linear-attention transformers that some forks put in front of each block. `zero_dc` silences bin 0
    of every stem, `skip_connection` adds all earlier blocks' outputs to a block's input. `chunk_frames` is
    the chunk that the offline recipe feeds at a time. Nothing in a state dict tells the stem names, the
    hop, `zero_dc`, `skip_connection` or the chunk, so those must be stated.
    Raises ConfigError where the values contradict each other.
    """

    dim: int
    depth: int
    architecture: str = "bs"
    stem_names: tuple[str, ...] = ("vocals",)
    sample_rate_hz: int = 44100
    chunk_frames: int = 352800
    channels: int = 2
    heads: int = 8
    dim_head: int = 64
    bands: tuple[int, ...] = BS_BANDS
    mel_bands: int = 60
    n_fft: int = 2048
    stft_hop_frames: int = 512
    win_frames: int = 2048
    mask_depth: int = 2
    expansion: int = 4
    time_depth: int = 1
    freq_depth: int = 1
    linear_depth: int = 0
    skip_connection: bool = False
    zero_dc: bool = False

    def __post_init__(self) -> None:
        _require_positive(self, "dim", "depth", "sample_rate_hz", "chunk_frames", "heads", "dim_head")
        _require_positive(self, "n_fft", "stft_hop_frames", "win_frames", "mel_bands", "mask_depth")
        _require_positive(self, "expansion", "time_depth", "freq_depth")
        linear_depth = self.linear_depth
        _require(
            isinstance(linear_depth, int) and linear_depth >= 0,
            f"linear_depth must be a whole number from 0, not {linear_depth!r}",
        )
        known = self.architecture in ("bs", "mel")
        _require(known, f"architecture must be bs or mel, not {self.architecture!r}")
        _require(self.channels in (1, 2), f"channels must be 1 or 2, not {self.channels!r}")
        _require(self.dim_head % 2 == 0, f"dim_head must be even for rotary embedding, not {self.dim_head}")
        _require_stems(self.stem_names)
        for name in ("skip_connection", "zero_dc"):
            value = getattr(self, name)
            _require(isinstance(value, bool), f"{name} must be true or false, not {value!r}")
        rate = self.sample_rate_hz
        _require(8000 <= rate <= 192_000, f"sample_rate_hz must be from 8000 to 192000, not {rate}")
        self._require_stft()

    def _require_stft(self) -> None:
        _require(self.n_fft <= LARGEST_N_FFT, f"n_fft {self.n_fft} is above {LARGEST_N_FFT}")
        _require(self.win_frames <= self.n_fft, f"win_frames {self.win_frames} is above n_fft {self.n_fft}")
        _require(
            2 * self.stft_hop_frames <= self.win_frames,
            f"stft_hop_frames {self.stft_hop_frames} is more than half of win_frames {self.win_frames}",
        )
        if self.architecture == "bs":
            _require_bands(self.bands, self.n_fft)
            return
        _require(
            self.mel_bands <= self.n_fft // 2,
            f"mel_bands {self.mel_bands} is too many for an STFT of {self.n_fft}",
        )
        _require(all(self.band_bins), f"mel_bands {self.mel_bands} is too many for an STFT of {self.n_fft}")

    @property
    def stems(self) -> int:
        return len(self.stem_names)

    @property
    def least_look_ahead_frames(self) -> int:
        """How old a window's sound must be to be clean: the newest hears its own reflection."""
        return self.n_fft

    @property
    def band_bins(self) -> tuple[range, ...]:
        """The STFT bins of every band."""
        if self.architecture == "mel":
            return mel_band_bins(self.mel_bands, self.n_fft, self.sample_rate_hz)
        return tuple(itertools.starmap(range, itertools.pairwise((0, *itertools.accumulate(self.bands)))))

    @property
    def longest_window_frames(self) -> int:
        """What one window may hold."""
        return LONGEST_WINDOW_S * self.sample_rate_hz

    def with_look_ahead(self, look_ahead_frames: int) -> NoReturn:
        """Raises ConfigError: windows give a published model its look-ahead."""
        raise ConfigError("a published model has no look-ahead to choose: leave @ out, see --framing")

    @property
    def mask_linears(self) -> int:
        """Linear layers in one mask estimator: the published mel code counts the hidden ones only."""
        return self.mask_depth + (self.architecture == "mel")


@dataclass(frozen=True)
class CausalConfig(_JsonConfig):
    """The project's own causal band-split RoFormer; one spectral frame per hop.

    `past_frames` (W) is how many spectral frames, the newest included, a time layer attends to. In the first
    one the newest is `look_ahead_frames` later than the frame it works for, or the whole signal is seen
    (WHOLE_SIGNAL). `look_aheads` are all that the network was trained for: it is told which one it works
    with, and any of them may be `look_ahead_frames`; empty, where there is one only.
    Raises ConfigError where the values contradict each other.
    """

    stem_names: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    sample_rate_hz: int = 44100
    channels: int = 2
    n_fft: int = 2048
    hop_frames: int = 441
    bands: tuple[int, ...] = CAUSAL_BANDS
    dim: int = 64
    depth: int = 3
    heads: int = 4
    dim_head: int = 16
    past_frames: int = 128
    expansion: int = 4
    mask_hidden: int = 32
    rotary_period: int = 4096
    look_ahead_frames: int = 0
    look_aheads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require_positive(self, "sample_rate_hz", "n_fft", "hop_frames", "dim", "depth", "heads", "dim_head")
        _require_positive(self, "past_frames", "expansion", "mask_hidden", "rotary_period")
        _require(self.channels in (1, 2), f"channels must be 1 or 2, not {self.channels!r}")
        _require(self.dim_head % 2 == 0, f"dim_head must be even for rotary embedding, not {self.dim_head}")
        _require_stems(self.stem_names)
        _require(
            2 * self.hop_frames <= self.n_fft,
            f"the synthesis window of 2 x {self.hop_frames} frames is longer than n_fft {self.n_fft}",
        )
        _require(
            self.past_frames <= self.rotary_period // 2,
            f"past_frames {self.past_frames} is more than half of the rotary period {self.rotary_period}",
        )
        _require(self.rotary_period <= 1 << 16, f"a rotary period of {self.rotary_period} is too long")
        _require_bands(self.bands, self.n_fft)
        self._require_look_aheads()

    def _require_look_aheads(self) -> None:
        known, chosen, most = self.look_aheads, self.look_ahead_frames, self.past_frames // 2
        for ahead in (*known, chosen):
            _require(
                type(ahead) is int and WHOLE_SIGNAL <= ahead <= most,
                f"a look-ahead must be 0 to {most} (half of past_frames) or {WHOLE_SIGNAL} (everything),"
                f" not {ahead!r:.40}",
            )
        _require(len(set(known)) == len(known), "look_aheads must be different")
        _require(not known or chosen in known, f"look_aheads must hold look_ahead_frames {chosen}")

    @property
    def stems(self) -> int:
        return len(self.stem_names)

    @property
    def stft_hop_frames(self) -> int:
        """As RoformerConfig calls it: what windows must be multiples of."""
        return self.hop_frames

    @property
    def least_look_ahead_frames(self) -> int:
        """How old a window's sound must be to be clean: a hop overlaps the next one's synthesis window."""
        return self.hop_frames

    @property
    def longest_window_frames(self) -> int:
        """What can be seen whole: half a turn of the rotary table, less the frame after the end."""
        return (self.rotary_period // 2 - 1) * self.hop_frames

    @property
    def known_look_aheads(self) -> tuple[int, ...]:
        """All that the network may be run at, its own among them."""
        return self.look_aheads or (self.look_ahead_frames,)

    @property
    def streams(self) -> bool:
        """Whether this network can work while the signal is still coming."""
        return self.look_ahead_frames != WHOLE_SIGNAL

    def with_look_ahead(self, look_ahead_frames: int) -> Self:
        """The same network at another of its `look_aheads`. Raises ConfigError for any other."""
        known = self.known_look_aheads
        names = ", ".join(map(_named, known))
        _require(
            look_ahead_frames in known,
            f"the network knows look-aheads of {names}, not {_named(look_ahead_frames)}:"
            " choose one that it knows, or a model trained for it",
        )
        return replace(self, look_ahead_frames=look_ahead_frames)

    @property
    def least_parameters(self) -> int:
        """Fewer than any network of this configuration has: products of its large matrices' sizes."""
        attention = 2 * self.heads * self.dim_head * self.dim
        blocks = 2 * self.depth * (attention + 2 * self.expansion * self.dim**2)
        hidden = self.stems * self.mask_hidden
        edges = self.channels * sum(self.bands) * (self.dim + hidden)
        return blocks + len(self.bands) * self.dim * hidden + edges

    @property
    def latency_frames(self) -> int:
        """Algorithmic latency: the synthesis window, S = 2H, and the look-ahead. Raises ConfigError."""
        _require(self.streams, "a network that sees the whole signal has no latency: use it on whole files")
        return (2 + self.look_ahead_frames) * self.hop_frames
