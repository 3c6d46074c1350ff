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
MIXTURE = "mixture"
SCORED_PARTS = ("test", "train")
"""Where songs lie by part, the first of these that is there is scored: models were trained on the other."""
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
    """The songs of DATA/test/SONG, DATA/train/SONG or DATA/SONG, the first that there is, by name.

    Errors: MusdbError.
    """
    if not data.is_dir():
        raise MusdbError(f"{data}: there is no such folder; name the one that holds the songs.")
    folders = _folders(_scored_part(data))
    if not folders:
        raise MusdbError(
            f"{data}: holds no songs; each needs a folder with {', '.join(STEMS)} as .wav files."
        )
    return {path.relative_to(data).as_posix(): path for path in folders}


def unscored_folders(data: Path) -> list[str]:
    """What lies beside the part that `song_folders` takes."""
    part = _scored_part(data)
    return [] if part == data else [path.name for path in _folders(data) if path != part]


def _scored_part(data: Path) -> Path:
    """Its folder, in whatever case its name is; where songs do not lie by part, all of them."""
    parts = {path.name.lower(): path for path in _folders(data)}
    return next((parts[name] for name in SCORED_PARTS if name in parts and _folders(parts[name])), data)


def _folders(inside: Path) -> list[Path]:
    return sorted(path for path in inside.iterdir() if path.is_dir() and path.name[0] != ".")


def read_song(folder: Path) -> TrueSong:
    """Read the stems, and the mixture where there is one: else it is their sum.

    Errors: MusdbError where a stem is missing, there twice, cut, damaged, or differs in rate, channels or
    length, and where the song is shorter than SHORTEST_S; those of `read_audio`.
    """
    paths = _stem_paths(folder)
    missing = [name for name in STEMS if name not in paths]
    if missing:
        raise MusdbError(f"{folder}: has no {missing[0]}.wav; a song needs {', '.join(STEMS)}.")
    stems: dict[str, Audio] = {}
    rate_hz = 0
    for name, path in paths.items():
        stems[name], stem_rate_hz = _whole(path)
        rate_hz = rate_hz or stem_rate_hz
        _check_alike(path, (stem_rate_hz, *stems[name].shape), (rate_hz, *stems[STEMS[0]].shape))
    _check_length(folder, stems[STEMS[0]].shape[1] / rate_hz)
    mixture = stems.pop(MIXTURE) if MIXTURE in stems else sum_of(stems.values())
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


def _stem_paths(folder: Path) -> dict[str, Path]:
    """The files of stems and mixture by name, in whatever case. Errors: MusdbError where two are the same."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS):
        name = path.stem.lower()
        if name in (*STEMS, MIXTURE) and found.setdefault(name, path) != path:
            raise MusdbError(f"{folder}: has two files for {name}; keep one.")
    return {name: found[name] for name in (*STEMS, MIXTURE) if name in found}


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
