"""Finds, screens and decodes the recordings that training mixes its items from.

Two layouts are understood. A *library* has a `files.tsv` with the columns `path` and `split`; the first
folder of a path says what a file is (`singing`, `speech`, `backgrounds`, `multitracks/.../SONG/STEM.ext`,
and one-shots under `drums`, `bass`, `other`). A folder of *songs* holds one folder per song with vocals,
drums, bass and other (as MUSDB18-HQ does). Every file is decoded once into a cache of int16 arrays.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.filters import RATE_HZ
from model.training.songs import STEM_NAMES
from model.training.synth import Audio, frames_of

Pcm = NDArray[np.int16]
_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".m4a"}
_QUIETEST_PEAK = 10.0 ** (-45.0 / 20.0)
_SHORTEST_S = {"singing": 0.3, "speech": 0.3, "backgrounds": 4.0, "multitracks": 4.0}


class TrainingDataError(ValueError):
    """Training data that cannot be used: one line with what, why and what to do."""


@dataclass(frozen=True)
class StemSong:
    """A song in stems, [2, frames] each; a stem that was not given is missing from the dict."""

    name: str
    stems: dict[str, Pcm]

    @property
    def frames(self) -> int:
        return min(int(stem.shape[-1]) for stem in self.stems.values())

    @property
    def complete(self) -> bool:
        """Whether all four stems are there. Without bass, nobody knows what else holds the bass."""
        return set(STEM_NAMES) <= set(self.stems)


@dataclass
class Sources:
    """Everything usable of one split, and what was left out and why."""

    songs: list[StemSong] = field(default_factory=list)
    singing: list[Pcm] = field(default_factory=list)
    speech: list[Pcm] = field(default_factory=list)
    backgrounds: list[Pcm] = field(default_factory=list)
    one_shots: dict[Path, Pcm] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def to_pcm(sound: Audio) -> Pcm:
    """Float audio to int16, clipped at full scale."""
    return np.asarray(np.clip(np.round(sound * 32768.0), -32768, 32767), dtype=np.int16)


def to_float(pcm: Pcm) -> Audio:
    """Int16 audio to float32."""
    return pcm.astype(np.float32) / np.float32(32768.0)


def decode(path: Path) -> Audio:
    """A whole audio file as [2, frames] at 44.1 kHz. Raises TrainingDataError where it cannot be read."""
    from pedalboard.io import AudioFile

    try:
        with AudioFile(str(path)) as file, file.resampled_to(float(RATE_HZ)) as audio:
            sound = np.asarray(audio.read(audio.frames), dtype=np.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingDataError(f"{path}: cannot be read as audio; remove or replace it") from error
    return sound[:2] if sound.shape[0] > 1 else np.repeat(sound, 2, axis=0)


def screened(path: Path, sound: Audio, shortest_s: float) -> Audio:
    """The sound, if it is of use. Raises TrainingDataError for non-finite, short or silent audio."""
    if not np.isfinite(sound).all():
        raise TrainingDataError(f"{path}: holds NaN or infinite samples; export it again")
    if sound.shape[-1] < frames_of(shortest_s):
        raise TrainingDataError(f"{path}: shorter than {shortest_s:g} s; not used")
    if np.abs(sound).max(initial=0.0) < _QUIETEST_PEAK:
        raise TrainingDataError(f"{path}: silent (peak below -45 dBFS); not used")
    return sound


def trimmed(sound: Audio) -> Audio:
    """Without the silence (below -50 dBFS) at both ends."""
    loud = np.flatnonzero(np.abs(sound).max(axis=0) > 10.0 ** (-50.0 / 20.0))
    return sound[:, loud[0] : loud[-1] + 1] if len(loud) else sound[:, :0]


def cached(cache: Path, key: str, make: Callable[[], Audio]) -> Pcm:
    """The array made by `make`, as int16, from `cache` if it is there; written whole or not at all."""
    path = cache / f"{hashlib.sha1(key.encode()).hexdigest()[:20]}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part.npy")  # several processes may make it at once
        np.save(part, to_pcm(make()))
        part.replace(path)
    array: Pcm = np.load(path, mmap_mode="r")
    return array


def _load(cache: Path, path: Path, category: str) -> Pcm:
    if not path.is_file():
        raise TrainingDataError(f"{path}: missing; restore it or take it out of files.tsv")
    stat = path.stat()
    shortest_s = _SHORTEST_S.get(category, 0.02)

    def make() -> Audio:
        sound = screened(path, decode(path), shortest_s)
        return screened(path, sound if category == "multitracks" else trimmed(sound), shortest_s)

    return cached(cache, f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}", make)


def read_index(folder: Path, split: str) -> list[Path]:
    """Paths of one split out of `files.tsv`. Raises TrainingDataError where the table is unusable."""
    table = folder / "files.tsv"
    if not table.is_file():
        raise TrainingDataError(f"{folder}: has no files.tsv; write one with the columns path and split")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or not {"path", "split"} <= set(rows[0]):
        raise TrainingDataError(f"{table}: needs the tab-separated columns path and split")
    return [Path(row["path"]) for row in rows if row["split"] == split]


def load_library(folder: Path, cache: Path, split: str = "train") -> Sources:
    """Sources of a library folder. Unusable files are named in `left_out`, not fatal."""
    sources = Sources()
    stems: dict[str, dict[str, Pcm]] = {}
    for relative in read_index(folder, split):
        category = relative.parts[0]
        try:
            pcm = _load(cache, folder / relative, category)
        except TrainingDataError as error:
            sources.left_out.append(str(error))
            continue
        if category == "multitracks":
            stems.setdefault(str(relative.parent), {})[relative.stem] = pcm
        elif category in ("singing", "speech", "backgrounds"):
            getattr(sources, category).append(pcm)
        elif category in STEM_NAMES:
            sources.one_shots[relative] = pcm
    sources.songs = [StemSong(name, found) for name, found in stems.items() if "vocals" in found]
    return sources


def load_songs(folder: Path, cache: Path) -> Sources:
    """Songs out of folders with vocals, drums, bass and other. Incomplete ones are left out by name.

    Raises TrainingDataError where no song can be used.
    """
    sources = Sources()
    for song_folder in _song_folders(folder):
        try:
            files = {p.stem.lower(): p for p in song_folder.iterdir() if p.suffix.lower() in _SUFFIXES}
            missing = [name for name in STEM_NAMES if name not in files]
            if missing:
                raise TrainingDataError(f"{song_folder}: has no {', '.join(missing)}; not used")
            stems = {name: _load(cache, files[name], "multitracks") for name in STEM_NAMES}
            sources.songs.append(StemSong(str(song_folder.relative_to(folder)), stems))
        except TrainingDataError as error:
            sources.left_out.append(str(error))
    if not sources.songs:
        reasons = f" ({sources.left_out[0]})" if sources.left_out else ""
        raise TrainingDataError(f"{folder}: no song folder with vocals, drums, bass and other{reasons}")
    return sources


def _song_folders(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise TrainingDataError(f"{folder}: no such folder; give the folder that holds the songs")
    for path in sorted(p for p in folder.rglob("*") if p.is_dir()):
        if any(p.stem.lower() in STEM_NAMES and p.suffix.lower() in _SUFFIXES for p in path.iterdir()):
            yield path


def merged(first: Sources, second: Sources) -> Sources:
    """Both sources together."""
    return Sources(
        first.songs + second.songs,
        first.singing + second.singing,
        first.speech + second.speech,
        first.backgrounds + second.backgrounds,
        first.one_shots | second.one_shots,
        first.left_out + second.left_out,
    )
