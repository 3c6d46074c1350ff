"""Effect chains: what a chain file may say, and a chain as a stage with one stem.

A chain file is TOML, one table per effect, played in the order of the file::

    [[chain.vocals]]
    plugin = "Compressor"
    threshold_db = -18
    ratio = 3

    [[chain.vocals]]
    plugin = "Reverb"
    room_size = 0.3
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard
from pedalboard import Pedalboard  # type: ignore[attr-defined]  # re-exported without saying so

from streaming.separator import Audio

EffectTable = dict[str, Any]
Chains = dict[str, list[EffectTable]]
"""Stem name -> the tables of its effects, as in the file."""

Span = tuple[float, float]
Allowed = Span | frozenset[str] | type[bool]

SHARE: Span = (0.0, 1.0)
SIGNED_SHARE: Span = (-0.95, 0.95)
LEVEL_DB: Span = (-100.0, 0.0)
BOOST_DB: Span = (-60.0, 24.0)
AUDIBLE_HZ: Span = (20.0, 20000.0)
SWEEP_HZ: Span = (0.0, 20.0)
TIME_MS: Span = (0.1, 5000.0)
RATIO: Span = (1.0, 100.0)

_SHELF: dict[str, Allowed] = {"cutoff_frequency_hz": AUDIBLE_HZ, "gain_db": BOOST_DB, "q": (0.05, 30.0)}
_DYNAMICS: dict[str, Allowed] = {
    "threshold_db": LEVEL_DB,
    "ratio": RATIO,
    "attack_ms": TIME_MS,
    "release_ms": TIME_MS,
}
_SWEPT: dict[str, Allowed] = {"rate_hz": SWEEP_HZ, "depth": SHARE, "feedback": SIGNED_SHARE, "mix": SHARE}

EFFECTS: dict[str, dict[str, Allowed]] = {
    "Bitcrush": {"bit_depth": (1.0, 32.0)},
    "BrickwallLimiter": {
        "ceiling_db": (-60.0, 0.0),
        "release_ms": TIME_MS,
        "lookahead_ms": (0.1, 20.0),
        "true_peak": bool,
    },
    "Chorus": {**_SWEPT, "centre_delay_ms": (1.0, 50.0)},
    "Clipping": {"threshold_db": LEVEL_DB},
    "Compressor": _DYNAMICS,
    "Delay": {"delay_seconds": (0.0, 10.0), "feedback": (0.0, 0.95), "mix": SHARE},
    "Distortion": {"drive_db": (0.0, 60.0)},
    "Gain": {"gain_db": BOOST_DB},
    "HighShelfFilter": _SHELF,
    "HighpassFilter": {"cutoff_frequency_hz": AUDIBLE_HZ},
    "Invert": {},
    "LadderFilter": {
        "mode": frozenset({"LPF12", "HPF12", "BPF12", "LPF24", "HPF24", "BPF24"}),
        "cutoff_hz": AUDIBLE_HZ,
        "resonance": (0.0, 0.95),
        "drive": (1.0, 20.0),
    },
    "Limiter": {"threshold_db": LEVEL_DB, "release_ms": TIME_MS},
    "LowShelfFilter": _SHELF,
    "LowpassFilter": {"cutoff_frequency_hz": AUDIBLE_HZ},
    "NoiseGate": _DYNAMICS,
    "PeakFilter": _SHELF,
    "Phaser": {**_SWEPT, "centre_frequency_hz": AUDIBLE_HZ},
    "Reverb": {
        "room_size": SHARE,
        "damping": SHARE,
        "wet_level": SHARE,
        "dry_level": SHARE,
        "width": SHARE,
        "freeze_mode": SHARE,
    },
}
"""Effects that give a block for a block at any block size, with the parameters a file may set."""

_UNEVEN = "gives short or empty blocks and is not fit for real time"
UNFIT = {
    "PitchShift": _UNEVEN,
    "Resample": _UNEVEN,
    "GSMFullRateCompressor": _UNEVEN,
    "MP3Compressor": _UNEVEN,
    "Convolution": "is not exact across block sizes and reads a file of its own",
    "VST3Plugin": "is not supported; chains are made of built-in effects",
}

MEASURED_S = 0.25
"""How much silence `warm_up` sends through a chain: far beyond any look-ahead that `EFFECTS` allows."""


class ChainError(ValueError):
    """A chain file that can not be played: where, what, why and what to do, in one line."""


def load_chains(path: Path, stem_names: Sequence[str]) -> Chains:
    """Read and check a chain file.

    Raises
    ------
    ChainError
        Unreadable or malformed file, unknown stem, effect or parameter, or a value out of range.

    Threads: any.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChainError(f"{path}: can not be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise ChainError(f"{path}: is not valid TOML ({error}); correct it there") from None
    chains = document.pop("chain", None)
    if document or not isinstance(chains, Mapping) or not chains:
        raise ChainError(f"{path}: holds {_listed(document)}; a chain file holds [[chain.STEM]] tables only")
    for stem, tables in chains.items():
        _check_stem(stem, tables, stem_names, str(path))
        for number, table in enumerate(tables, 1):
            build_effect(table, f"{path}: chain.{stem}, effect {number}")
    return dict(chains)


def _check_stem(stem: str, tables: object, stem_names: Sequence[str], source: str) -> None:
    if stem not in stem_names:
        raise ChainError(
            f"{source}: chain.{stem!r:.40} names no stem of this model; its stems are {', '.join(stem_names)}"
        )
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables) or not tables:
        raise ChainError(
            f"{source}: chain.{stem} is no list of effects; write [[chain.{stem}]] over each effect"
        )


def build_effect(table: Mapping[str, Any], where: str = "effect") -> pedalboard.Plugin:
    """The effect that a table describes; ChainError, beginning with `where`, if it can not be built."""
    settings = dict(table)
    name = settings.pop("plugin", None)
    if not isinstance(name, str):
        raise ChainError(f'{where}: lacks its plugin; add a line like plugin = "Reverb"')
    if name in UNFIT:
        raise ChainError(f"{where}: {name} {UNFIT[name]}; use one of {_listed(EFFECTS)}")
    if name not in EFFECTS or not hasattr(pedalboard, name):
        raise ChainError(f"{where}: there is no effect {name!r:.40}; use one of {_listed(EFFECTS)}")
    values = {
        key: _fitting(key, value, EFFECTS[name], f"{where} ({name})") for key, value in settings.items()
    }
    effect: pedalboard.Plugin = getattr(pedalboard, name)(**values)
    return effect


def _fitting(key: str, value: object, parameters: Mapping[str, Allowed], where: str) -> object:
    """`value` as the effect's constructor takes it."""
    if key not in parameters:
        raise ChainError(f"{where}: there is no parameter {key!r:.40}; it takes {_listed(parameters)}")
    allowed = parameters[key]
    if isinstance(allowed, frozenset):
        if isinstance(value, str) and value in allowed:
            return pedalboard.LadderFilter.Mode.__members__[value]
        raise ChainError(f"{where}: {key} = {value!r:.40} must be one of {_listed(sorted(allowed))}")
    if isinstance(allowed, type):
        if isinstance(value, bool):
            return value
        raise ChainError(f"{where}: {key} = {value!r:.40} must be true or false")
    return _number(value, allowed, f"{where}: {key} = {value!r:.40}")


def _number(value: object, span: Span, where: str) -> float:
    low, high = span
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ChainError(f"{where} must be a number from {low:g} to {high:g}")
    if not low <= value <= high:  # NaN is not either
        raise ChainError(f"{where} is out of range; take {low:g} to {high:g}")
    return float(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


class Chain:
    """A chain of effects as a stage with one stem (the Separator protocol).

    The chain works on blocks of whole hops, more frames than channels (pedalboard tells channels from frames
    by which are fewer), with a FIFO behind it. `held_frames`, measured in `warm_up`, is what the chain adds
    to the latency of its stem: the look-ahead of the effects, and what a block longer than a hop costs.
    `latency_frames` counts the hop itself too, as every stage does.

    A chain that fails answers with NaN, so that the worker throws the hop away, counts it and resets the
    chain, while other stems play on; `failure` says why.

    Threads: as `Separator`.
    """

    def __init__(
        self, stem: str, tables: Sequence[EffectTable], sample_rate_hz: int, hop_frames: int, channels: int
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.hop_frames = self.window_frames = self.latency_frames = hop_frames
        self.stem_names: tuple[str, ...] = (stem,)
        self.failure = ""
        self._board = Pedalboard([build_effect(table, f"chain.{stem}") for table in tables])
        block_frames = hop_frames * (channels // hop_frames + 1)
        self._block = np.zeros((channels, block_frames), np.float32)
        self._gathered_frames = 0
        self._fifo = np.zeros((channels, 0), np.float32)

    @property
    def held_frames(self) -> int:
        return self.latency_frames - self.hop_frames

    def warm_up(self) -> None:
        """Run silence through the chain and measure how many frames it holds back."""
        self._block[:] = 0.0
        self._board.reset()
        block_frames = self._block.shape[1]
        held_frames = most_held_frames = 0
        for _ in range(math.ceil(MEASURED_S * self.sample_rate_hz / block_frames)):
            held_frames += block_frames - self._process().shape[1]
            most_held_frames = max(most_held_frames, held_frames)
        self.latency_frames = most_held_frames + block_frames
        self.reset()

    def reset(self) -> None:
        """Forget all past audio: empty effects, and silence for the frames that are held back."""
        self._board.reset()
        self._gathered_frames = 0
        self._fifo = np.zeros((self._block.shape[0], self.held_frames), np.float32)

    def separate(self, mixture: Audio, stems_out: Audio) -> None:
        """Play `mixture` [channels, hop_frames] into `stems_out` [1, channels, hop_frames]."""
        try:
            stems_out[0] = self._play(mixture)
        except Exception as error:  # a plugin may raise anything
            self.failure = f"the chain of {self.stem_names[0]} failed: {' '.join(str(error).split())}"
            stems_out[0] = np.nan

    def close(self) -> None:
        """Let the effects go."""
        self._board = Pedalboard([])

    def _play(self, hop: Audio) -> Audio:
        """The next hop [channels, hop_frames] of the FIFO, once `hop` has gone in."""
        start, end = self._gathered_frames, self._gathered_frames + self.hop_frames
        self._block[:, start:end] = np.nan_to_num(hop, nan=0.0, posinf=0.0, neginf=0.0)
        self._gathered_frames = end % self._block.shape[1]
        if self._gathered_frames == 0:
            self._fifo = np.concatenate([self._fifo, self._process()], axis=1)
        ready, self._fifo = np.split(self._fifo, [self.hop_frames], axis=1)
        if ready.shape[1] < self.hop_frames:
            raise RuntimeError("it gave fewer frames than it took")
        return ready

    def _process(self) -> Audio:
        wet: Audio = self._board.process(self._block, self.sample_rate_hz, reset=False)
        return wet
