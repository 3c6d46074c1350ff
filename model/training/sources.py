"""Finds the recordings that training mixes its items from, and says which cannot be used and why.

Two layouts are understood. A *library* has a `files.tsv` with the columns `path` and `split`; the first
folder of a path says what a file is (`singing`, `speech`, `backgrounds`, `multitracks/.../SONG/STEM.ext`,
`instrumentals/.../SONG/STEM.ext` for songs in stems that nobody sings, and one-shots under `drums`, `bass`,
`other`). A folder of *songs* holds one folder per song with vocals, drums, bass and other (as MUSDB18-HQ
does), or with vocals and their accompaniment only.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from model.filters import RATE_HZ
from model.training.recordings import SUFFIXES, Pcm, TrainingDataError, load, rate_of
from model.training.sequenced import instruments
from model.training.songs import STEM_NAMES

BAD_DATA = ("skip", "refuse")
SPLITS = ("train", "test")
_OPPOSITE = {"train": "test", "test": "train"}
_ACCOMPANIMENT_NAMES = ("accompaniment", "instrumental", "no_vocals")
_UNREADABLE = {".aac", ".ape", ".caf", ".mka", ".mp4", ".opus", ".webm", ".wma", ".wv"}
_SUMS = ("mixture", *_ACCOMPANIMENT_NAMES)  # beside the stems they say nothing new
_SHORTEST_S = {"singing": 0.3, "speech": 0.3, "backgrounds": 4.0}
_SHORTEST_SONG_S = 4.0
_SHORTEST_ONE_SHOT_S = 0.02
_SONG_KINDS = ("multitracks", "instrumentals")
_KINDS = ("singing", "speech", "backgrounds", *_SONG_KINDS, "drums", "bass", "other")


@dataclass(frozen=True)
class StemSong:
    """A song in stems, [2, frames] each; a stem that was not given is missing from the dict, and so are the
    vocals of an instrumental."""

    name: str
    stems: dict[str, Pcm]

    @property
    def frames(self) -> int:
        return int(next(iter(self.stems.values())).shape[-1])

    @property
    def complete(self) -> bool:
        """Whether drums, bass and other are there. Without bass, nobody knows what else holds the bass."""
        return set(STEM_NAMES[1:]) <= set(self.stems)


@dataclass
class Sources:
    """Everything usable of one split; what was left out and why (`one_shots` hold them even where nothing
    can play them); what else one should know."""

    songs: list[StemSong] = field(default_factory=list)
    singing: list[Pcm] = field(default_factory=list)
    speech: list[Pcm] = field(default_factory=list)
    backgrounds: list[Pcm] = field(default_factory=list)
    one_shots: dict[Path, Pcm] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def remarks(self, of: str = "") -> list[str]:
        """Lines worth reading: what is not used (left out`of`) and why, and what else one should know."""
        lines = [f"left out{of}: {line}" for line in self.left_out] + self.notes
        return [line.replace("\n", " ") for line in lines]

    @property
    def told(self) -> str:
        """How many recordings of each kind, and how long they are together: others change every item."""
        stems = [stem for song in self.songs for stem in song.stems.values()]
        kinds = (stems, self.singing, self.speech, self.backgrounds, list(self.one_shots.values()))
        names = ("stems", "sung", "spoken", "backgrounds", "one-shots")
        counts = ", ".join(f"{len(kind)} {name}" for kind, name in zip(kinds, names, strict=True))
        return f"{counts}, {sum(pcm.shape[-1] for kind in kinds for pcm in kind)} frames in all"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to mix from."""
        return not (self.songs or self.singing or self.speech or self.backgrounds or self.one_shots)


def accepted(sources: Sources, bad_data: str) -> Sources:
    """The sources, if `bad_data` is "skip" or nothing was left out.

    Raises TrainingDataError otherwise: the first reason; `sources.left_out` has them all.
    """
    if bad_data not in BAD_DATA:
        raise TrainingDataError(f"bad data: choose {' or '.join(BAD_DATA)}, not {bad_data!r}")
    if bad_data == "refuse" and sources.left_out:
        more = f" (and {len(sources.left_out) - 1} more)" if len(sources.left_out) > 1 else ""
        raise TrainingDataError(f"{sources.left_out[0]}{more}; or train with --bad-data skip")
    return sources


def read_index(folder: Path, split: str) -> list[Path]:
    """Paths of one split out of `files.tsv`. Raises TrainingDataError where the table is unusable."""
    return [path for path, named in _index(folder) if named == split]


def _index(folder: Path) -> list[tuple[Path, str]]:
    table = folder / "files.tsv"
    if not table.is_file():
        raise TrainingDataError(f"{folder}: has no files.tsv; write one with the columns path and split")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"{table}: not a table in UTF-8; write it again") from error
    if not rows or not all(row.get("path") and row.get("split") for row in rows):
        raise TrainingDataError(f"{table}: needs the tab-separated columns path and split in every row")
    paths = [Path(row["path"]) for row in rows]
    if outside := [path for path in paths if path.is_absolute() or ".." in path.parts or not path.parts]:
        raise TrainingDataError(
            f"{table}: '{outside[0]}' names no file below {folder}; write a path from there"
        )
    return [(path, row["split"]) for path, row in zip(paths, rows, strict=True)]


def pack_of(path: Path) -> Path:
    """What must lie on one side of the split as a whole: a folder of voices, samples or stems, one piece."""
    return path if path.parts[0] == "backgrounds" else path.parent


def shared_packs(folder: Path) -> list[Path]:
    """Packs of a library that its `files.tsv` puts into both training and test."""
    splits: dict[Path, set[str]] = defaultdict(set)
    for path, split in _index(folder):
        splits[pack_of(path)].add(split)
    return sorted(pack for pack, named in splits.items() if {"train", "test"} <= named)


def _unused(folder: Path) -> list[str]:
    """A line for each name of a split that means nothing here: a misspelt one would take its files away."""
    counts = Counter(split for _, split in _index(folder) if split not in SPLITS)
    return [
        f"{folder / 'files.tsv'}: split {split!r:.40} ({count} rows) is none of {', '.join(SPLITS)}; not used"
        for split, count in sorted(counts.items())
    ]


def load_library(folder: Path, cache: Path, split: str = "train") -> Sources:
    """Sources of a library folder. Unusable files are named in `left_out`, not fatal.

    A pack of both splits is trained on, but no part of it is test data. Raises TrainingDataError.
    """
    sources, shared = Sources(left_out=_unused(folder)), shared_packs(folder)
    sources.notes = [f"{folder / pack}: in training and in test; not tested on" for pack in shared]
    songs: dict[Path, list[Path]] = defaultdict(list)
    resampled = 0
    for relative in read_index(folder, split):
        if split == "test" and pack_of(relative) in shared:
            continue
        if relative.parts[0] in _SONG_KINDS and len(relative.parts) > 1:
            songs[relative.parent].append(folder / relative)
        else:
            resampled += _add_file(sources, folder, relative, cache)
    for song_folder, paths in songs.items():
        _add_song(sources, folder, song_folder, paths, cache, kind=song_folder.parts[0])
    sources.left_out += instruments(sources.one_shots).left_out
    if resampled:
        sources.notes.append(f"{folder}: {resampled} files of other rates, resampled to {RATE_HZ} Hz")
    return sources


def _add_file(sources: Sources, folder: Path, relative: Path, cache: Path) -> bool:
    """One file: a voice, a background, a one-shot. Whether it is used and has been resampled."""
    category = relative.parts[0]
    try:
        if category not in _KINDS:
            raise TrainingDataError(
                f"{folder / relative}: lies in none of {', '.join(_KINDS)}; move it there"
            )
        shortest_s = _SHORTEST_S.get(category, _SHORTEST_ONE_SHOT_S)
        pcm = load(cache, folder / relative, shortest_s, trim=True)
        rate = rate_of(folder / relative)
    except TrainingDataError as error:
        sources.left_out.append(str(error))
        return False
    if category in ("singing", "speech", "backgrounds"):
        getattr(sources, category).append(pcm)
    else:
        sources.one_shots[relative] = pcm
    return rate != RATE_HZ


def load_songs(folder: Path, cache: Path, split: str = "train") -> Sources:
    """Songs out of folders of stems. A song with any bad stem is left out as a whole, by name.

    Where `folder` has the folders `train` and `test` (as MUSDB18-HQ has, in whatever case), each is the split
    of its name; else all songs are for training. Raises TrainingDataError where none of them can be used.
    """
    sources, used = Sources(), dict[object, Path]()
    elsewhere = _known_elsewhere(folder, split)
    for song_folder in _song_folders(folder, split):
        files = _files_of(song_folder)
        if first := next((used[file] for file in files & used.keys()), None):
            sources.left_out.append(f"{song_folder}: holds files of {first}; used once")
            continue
        used |= dict.fromkeys(files, song_folder)
        if song_folder.is_symlink() and not files:
            sources.left_out.append(f"{song_folder}: a link to what is no song; link songs one by one")
            continue
        if elsewhere & (files | {_name_in_split(folder, song_folder)}):
            sources.notes.append(f"{song_folder}: in training and in test; not tested on")
            if split == "test":
                continue
        name = song_folder.relative_to(folder)
        _add_song(sources, folder, name, _sounds(song_folder), cache, kind="songs")
    if split == "train":
        _say_what_splits_leave(sources, folder)
    if not sources.songs and split == "train":
        reasons = f" ({sources.left_out[0]})" if sources.left_out else ""
        raise TrainingDataError(f"{folder}: no song folder with vocals, drums, bass and other{reasons}")
    return sources


def _split_folders(folder: Path) -> dict[str, list[Path]]:
    """The folders that are named as a split, in whatever case."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    return {split: [path for path in inside if path.name.lower() == split] for split in SPLITS}


def _song_folders(folder: Path, split: str) -> Iterator[Path]:
    if not folder.is_dir():
        raise TrainingDataError(f"{folder}: no such folder; give the folder that holds the songs")
    splits = _split_folders(folder)
    divided = all(splits.values())
    if not divided and split != "train":
        return
    for root in splits[split] if divided else [folder]:
        for path in sorted(p for p in root.rglob("*") if p.is_dir() and not _hidden(p.relative_to(root))):
            inside = list(path.iterdir())
            if not inside or _leads_out(path, folder) or any(_may_be_a_stem(file) for file in inside):
                yield path


def _hidden(path: Path) -> bool:
    return any(part[0] == "." for part in path.parts)


def _leads_out(path: Path, folder: Path) -> bool:
    """Whether it is a link to what is not looked through anyway."""
    return path.is_symlink() and not path.resolve().is_relative_to(folder.resolve())


def _may_be_a_stem(file: Path) -> bool:
    """Audio, be it of no use here: who meant a song by it must hear why it is none."""
    return file.suffix.lower() in SUFFIXES | _UNREADABLE and file.is_file()


def _known_elsewhere(folder: Path, split: str) -> set[object]:
    """What tells that a song of the other split is the same: any of its files, or its name there."""
    others = list(_song_folders(folder, _OPPOSITE[split]))
    return set[object]().union(*map(_files_of, others)) | {_name_in_split(folder, song) for song in others}


def _name_in_split(folder: Path, song_folder: Path) -> tuple[str, ...]:
    return song_folder.relative_to(folder).parts[1:]


def _files_of(song_folder: Path) -> set[object]:
    """Its sounds by where they really lie, whatever links lead there."""
    stats = [path.stat() for path in _sounds(song_folder) if path.is_file()]
    return {(stat.st_dev, stat.st_ino) for stat in stats}


def _sounds(song_folder: Path) -> list[Path]:
    """Its audio files, but for hidden ones (what macOS leaves on foreign disks)."""
    return sorted(p for p in song_folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")


def _say_what_splits_leave(sources: Sources, folder: Path) -> None:
    """Songs beside `train` and `test` are left out; those of `test` alone are trained on, and said to be."""
    splits = _split_folders(folder)
    if not all(splits.values()):
        sources.notes += [f"{path}: no folder train beside it; trained on" for path in splits["test"]]
        return
    named = {path for paths in splits.values() for path in paths}
    sources.left_out += [
        f"{path}: neither {' nor '.join(SPLITS)}; not used"
        for path in sorted(folder.iterdir())
        if path not in named
        and not _hidden(path.relative_to(folder))
        and any(map(_may_be_a_stem, path.rglob("*")))
    ]


def _add_song(sources: Sources, root: Path, name: Path, paths: list[Path], cache: Path, kind: str) -> None:
    """The song `name` below `root`: all its stems, or none where one is bad or where they do not fit."""
    folder = root / name
    try:
        files = _stem_files(folder, paths)
        if missing := [stem for stem in _required_stems(kind, files) if stem not in files]:
            raise TrainingDataError(f"{folder}: has no {', '.join(missing)}; not used")
        stems = {stem: load(cache, path, _SHORTEST_SONG_S, trim=False) for stem, path in files.items()}
        rates = {stem: rate_of(path) for stem, path in files.items()}
        _require_same(folder, rates, "Hz")
        _require_same(folder, {stem: pcm.shape[-1] for stem, pcm in stems.items()}, "frames")
    except TrainingDataError as error:
        sources.left_out.append(str(error))
        return
    sources.songs.append(StemSong(str(name), stems))
    sources.notes += [f"{folder}: {said}" for said in _remarks(files, paths)]
    if (rate := next(iter(rates.values()))) != RATE_HZ:
        sources.notes.append(f"{folder}: {rate} Hz, resampled to {RATE_HZ} Hz")


def _stem_files(folder: Path, paths: list[Path]) -> dict[str, Path]:
    """The files of a song by stem. With vocals an accompaniment is `other`, unless all four stems are there.

    Raises TrainingDataError where two files are the same stem, or none is a stem.
    """
    named: dict[str, Path] = {}
    for path in paths:
        name = path.stem.lower()
        if name in (*STEM_NAMES, *_ACCOMPANIMENT_NAMES) and named.setdefault(name, path) != path:
            raise TrainingDataError(f"{folder}: has two files for {name}; keep one")
    if not named:
        raise TrainingDataError(
            f"{folder}: no file is named vocals, drums, bass, other or instrumental"
            f" ({', '.join(sorted(SUFFIXES))}); not used"
        )
    sums = [name for name in _ACCOMPANIMENT_NAMES if name in named]
    if not sums or "vocals" not in named or set(STEM_NAMES) <= set(named):
        return {name: named[name] for name in STEM_NAMES if name in named}
    if len(sums) > 1:
        raise TrainingDataError(
            f"{folder}: has two files for the accompaniment ({', '.join(sums)}); keep one"
        )
    return {"vocals": named["vocals"], "other": named[sums[0]]}


def _required_stems(kind: str, files: dict[str, Path]) -> tuple[str, ...]:
    """Of a song of a library's `multitracks` or `instrumentals`, or of a folder of `songs`."""
    if kind == "instrumentals":
        return STEM_NAMES[1:]
    if kind == "songs" and set(files) != {"vocals", "other"}:
        return STEM_NAMES
    return ("vocals",)


def _remarks(files: dict[str, Path], paths: list[Path]) -> list[str]:
    """What is not used of a song's files, and what is taken for what it may not be."""
    taken = [path.name for path in files.values()]
    if idle := [path.name for path in paths if path.name not in taken and path.stem.lower() not in _SUMS]:
        return [f"{', '.join(idle)} not used; only {', '.join(taken)} are"]
    if set(files) == {"vocals", "other"} and files["other"].stem.lower() == "other":
        return ["vocals and other alone; other is taken for the rest"]
    return []


def _require_same(folder: Path, values: dict[str, int], unit: str) -> None:
    if len(set(values.values())) > 1:
        named = ", ".join(f"{stem} {value}" for stem, value in values.items())
        raise TrainingDataError(f"{folder}: stems differ in {unit} ({named}); export them together")


def load_sources(
    audio_dir: Path | None, songs_dir: Path | None, cache: Path, split: str = "train"
) -> Sources:
    """Recordings of one split: of a library, a folder of songs, both or none. Raises TrainingDataError."""
    sources = Sources()
    if audio_dir is not None:
        sources = load_library(audio_dir, cache, split)
    if songs_dir is not None:
        sources = merged(sources, load_songs(songs_dir, cache, split))
    return sources


def merged(first: Sources, second: Sources) -> Sources:
    """Both sources together."""
    return Sources(
        first.songs + second.songs,
        first.singing + second.singing,
        first.speech + second.speech,
        first.backgrounds + second.backgrounds,
        first.one_shots | second.one_shots,
        first.left_out + second.left_out,
        first.notes + second.notes,
    )
