"""Which files are meant, where the stems of each go, and which are done already."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from host.errors import UserError

RECORD = "separation.json"
"""Lies in every finished folder and says what it was made from and how."""

AUDIO_SUFFIXES = frozenset(
    (".wav", ".bwf", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".m4a", ".aac", ".wma", ".caf")
)
"""What is looked for in folders; what cannot be read shows later, by name."""

PLAYLIST_SUFFIXES = frozenset((".m3u", ".m3u8", ".pls"))


class LibraryError(UserError):
    """An input that names nothing that could be separated."""


@dataclass(frozen=True)
class Job:
    """One file to separate into one folder."""

    source: Path
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the record in its folder, or why there is none."""

    job: Job
    record: dict[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True)
class Found:
    """An audio file that was asked for, and its name in the output: a path without suffix."""

    source: Path
    name: Path


def find_inputs(inputs: Sequence[Path], out: Path) -> tuple[list[Found], list[tuple[Path, LibraryError]]]:
    """The audio files that files, folders, patterns and playlists name, each once; and what names none.

    What lies below `out`, or in a folder that holds a record, is nobody's input unless it is named itself.
    """
    found: dict[Path, Found] = {}
    failed: list[tuple[Path, LibraryError]] = []
    for path in inputs:
        try:
            for item in _expanded(path, out.resolve()):
                found.setdefault(item.source.resolve(), item)
        except LibraryError as error:
            failed.append((path, error))
    return list(found.values()), failed


def _expanded(path: Path, out: Path) -> Iterator[Found]:
    if path.is_dir():
        return iter(
            _some(list(_in_folder(path, out)), f"{path}: holds no audio files; name a folder that does.")
        )
    if path.suffix.lower() in PLAYLIST_SUFFIXES and path.is_file():
        entries = playlist_entries(path)
        return iter(
            _some([_named(entry) for entry in entries], f"{path}: names no files; check the playlist.")
        )
    if not path.exists() and any(letter in "*?[" for letter in str(path)):
        return iter(_some(list(_matching(path, out)), f"{path}: matches no audio file; check the pattern."))
    return iter([_named(path)])


def _some(found: list[Found], otherwise: str) -> list[Found]:
    if not found:
        raise LibraryError(otherwise)
    return found


def _named(path: Path) -> Found:
    return Found(path, _without_suffix(Path(path.name)))


def _without_suffix(path: Path) -> Path:
    """A last part of nothing but dots would lead out of the folder that stems go to."""
    return path.with_name(path.stem if path.stem.strip(".") else "_")


def _in_folder(folder: Path, out: Path) -> Iterator[Found]:
    paths = sorted(path for path in _walk(folder, out) if path.suffix.lower() in AUDIO_SUFFIXES)
    return (Found(path, _without_suffix(path.relative_to(folder))) for path in paths)


def _matching(pattern: Path, out: Path) -> Iterator[Found]:
    start = _start_of(pattern)
    for path in sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))):
        below = [folder for folder in (path, *path.parents) if start in folder.parents]
        if any(_is_output(folder, out) for folder in below):
            continue
        if path.is_dir():
            yield from _in_folder(path, out)
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield _named(path)


def _start_of(pattern: Path) -> Path:
    """The folder in front of the first wildcard."""
    return next(
        folder for folder in reversed((pattern, *pattern.parents)) if any(c in folder.name for c in "*?[")
    ).parent


def _is_output(folder: Path, out: Path) -> bool:
    """Whether stems lie there: `out` itself, or, where songs and stems share a folder, by the record."""
    return folder.resolve() == out or (folder / RECORD).is_file()


def _walk(folder: Path, out: Path) -> Iterator[Path]:
    """All files below, without hidden ones and without the output."""
    for here, folders, names in os.walk(folder):
        at = Path(here)
        folders[:] = [name for name in folders if name[0] != "." and not _is_output(at / name, out)]
        yield from (at / name for name in names if name[0] != ".")


def playlist_entries(path: Path) -> list[Path]:
    """The files that an M3U or PLS playlist names. Errors: LibraryError."""
    lines = [line.strip() for line in _text(path).splitlines()]
    if path.suffix.lower() == ".pls":
        lines = [line.partition("=")[2] for line in lines if line.lower().startswith("file")]
    return [_entry(path, line) for line in lines if line and not line.startswith("#")]


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LibraryError(f"{path}: cannot be read ({error.strerror}); check who may read it.") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # what .m3u was before there was .m3u8


def _entry(playlist: Path, line: str) -> Path:
    """A line of a playlist as a path; relative ones start at the playlist."""
    if line.lower().startswith("file://"):
        line = unquote(urlsplit(line).path)
    entry = playlist.parent / line
    if not entry.exists() and "\\" in line:  # made on Windows
        return playlist.parent / line.replace("\\", "/")
    return entry


def assign_folders(found: Iterable[Found], out: Path) -> list[Job]:
    """A folder below `out` for each file: its name, then NAME-2, NAME-3 where names meet.

    A folder that another file was separated into, now or in an earlier run, is not taken. Names that differ
    in case only count as the same, since some file systems think so.
    """
    taken: set[str] = set()
    jobs = []
    for item in found:
        folder, number = out / item.name, 2
        while str(folder).casefold() in taken or _belongs_to_another(folder, item.source):
            folder, number = out / item.name.with_name(f"{item.name.name}-{number}"), number + 1
        taken.add(str(folder).casefold())
        jobs.append(Job(item.source, folder))
    return jobs


def _belongs_to_another(folder: Path, source: Path) -> bool:
    record = read_record(folder)
    return record is not None and record["source"]["path"] != str(source.resolve())


def source_of(path: Path) -> dict[str, Any]:
    """What tells whether a file is still the one that was separated."""
    status = path.stat()
    return {"path": str(path.resolve()), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished folder; None where there is none that can be trusted."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        complete = all((folder / name).is_file() for name in record["files"].values())
        return record if complete and record["source"]["path"] and "settings" in record else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def finished(job: Job, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a job that was done with the same settings and whose source has not changed since."""
    record = read_record(job.folder)
    try:
        same = (
            record is not None
            and record["settings"] == settings
            and record["source"] == source_of(job.source)
        )
    except OSError:
        return None
    return record if same else None
