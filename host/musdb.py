"""Songs with their true stems on disk, in folders as MUSDB18-HQ has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from host.audio_files import FORMATS, read_audio
from host.errors import UserError
from model.training.headers import ends_early, sum_differs
from streaming.separator import Audio

STEMS = ("vocals", "drums", "bass", "other")
PARTS = ("train", "test")
SHORTEST_S = 1.0
"""The window of the SDR of MUSDB18: a mean over songs must not rest on less than one."""


class MusdbError(UserError):
    """A folder that is no set of songs with true stems."""


@dataclass(frozen=True)
class TrueSong:
    """A song and what it was mixed from: `mixture` and every one of `stems` [channels, frames]."""

    rate_hz: int
    mixture: Audio
    stems: Mapping[str, Audio]


def song_folders(data: Path) -> dict[str, Path]:
    """The songs of DATA/SONG or DATA/train/SONG and DATA/test/SONG, by name. Errors: MusdbError."""
    if not data.is_dir():
        raise MusdbError(f"{data}: there is no such folder; name the one that holds the songs.")
    roots = [data / part for part in PARTS if (data / part).is_dir()] or [data]
    folders = sorted(
        path for root in roots for path in root.iterdir() if path.is_dir() and path.name[0] != "."
    )
    if not folders:
        raise MusdbError(
            f"{data}: holds no songs; each needs a folder with {', '.join(STEMS)} as .wav files."
        )
    return {path.relative_to(data).as_posix(): path for path in folders}


def read_song(folder: Path) -> TrueSong:
    """Read the stems, and the mixture where there is one: else it is their sum.

    Errors: MusdbError where a stem is missing, cut, damaged, or differs in rate, channels or length, and
    where the song is shorter than SHORTEST_S; those of `read_audio`.
    """
    missing = [name for name in STEMS if _find(folder, name) is None]
    if missing:
        raise MusdbError(f"{folder}: has no {missing[0]}.wav; a song needs {', '.join(STEMS)}.")
    paths = {name: path for name in (*STEMS, "mixture") if (path := _find(folder, name))}
    stems: dict[str, Audio] = {}
    rate_hz = 0
    for name, path in paths.items():
        stems[name], stem_rate_hz = _whole(path)
        rate_hz = rate_hz or stem_rate_hz
        _check_alike(path, (stem_rate_hz, *stems[name].shape), (rate_hz, *stems[STEMS[0]].shape))
    _check_length(folder, stems[STEMS[0]].shape[1] / rate_hz)
    mixture = stems.pop("mixture") if "mixture" in stems else sum_of(stems.values())
    return TrueSong(rate_hz, mixture, stems)


def _whole(path: Path) -> tuple[Audio, int]:
    """As `read_audio`, of whole files: decoders fill what is cut with silence, and that would be scored."""
    cut = MusdbError(f"{path}: ends early or is damaged; copy or download it again.")
    if ends_early(path):
        raise cut
    audio, rate_hz = read_audio(path)
    if sum_differs(path, audio):
        raise cut
    return audio, rate_hz


def sum_of(parts: Iterable[Audio]) -> Audio:
    """The sum of the parts; a single one is not copied, since a song is large."""
    return reduce(np.add, parts)


def _find(folder: Path, name: str) -> Path | None:
    candidates = [folder / f"{name}{suffix}" for suffix in FORMATS]
    return next((path for path in candidates if path.is_file()), None)


def _check_length(folder: Path, seconds: float) -> None:
    if seconds < SHORTEST_S:
        raise MusdbError(
            f"{folder}: shorter than the {SHORTEST_S:g} s that a score is taken over; leave it out."
        )


def _check_alike(path: Path, facts: tuple[int, ...], first: tuple[int, ...]) -> None:
    for what, here, there in zip(("Hz", "channels", "frames"), facts, first, strict=True):
        if here != there:
            raise MusdbError(
                f"{path}: {here} {what}, but {STEMS[0]} has {there}; export the stems of a song alike."
            )
