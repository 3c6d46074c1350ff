"""Text tags of audio files: title, artist, album and their like, carried from a file to its stems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutagen
from mutagen.easyid3 import EasyID3
from mutagen.id3 import ID3, TXXX, Encoding
from mutagen.wave import WAVE

Tags = dict[str, list[str]]

OF_THE_MIX = ("replaygain", "encoded", "length")
"""Beginnings of tags that are no longer true of a stem."""


def read_tags(path: Path) -> Tags:
    """The text tags of a file under their common names; none where it has none that can be read."""
    try:
        file = mutagen.File(path, easy=True)
    except (mutagen.MutagenError, OSError):
        return {}
    if file is None or file.tags is None:
        return {}
    found = _of_id3(file.tags) if isinstance(file.tags, ID3) else dict(file.tags)
    return {
        name.lower(): [str(value) for value in values]
        for name, values in found.items()
        if not name.lower().startswith(OF_THE_MIX)
    }


def _of_id3(tags: ID3) -> Tags:
    return {
        name: list(EasyID3.Get[name](tags, name))
        for name in EasyID3.Get
        if "*" not in name and _has(tags, name)
    }


def _has(tags: ID3, name: str) -> bool:
    try:
        return bool(EasyID3.Get[name](tags, name))
    except KeyError:
        return False


def write_tags(path: Path, tags: Tags) -> bool:
    """Give a WAV or FLAC these tags; whether they could be written (a WAV above 4 GB takes none)."""
    if not tags:
        return True
    try:
        file: Any = mutagen.File(path)
        if isinstance(file, WAVE):
            file.add_tags()
            file.tags.update(_as_id3(tags))
        else:
            file.update(tags)
        file.save()
    except (mutagen.MutagenError, OSError):
        return False
    return True


def _as_id3(tags: Tags) -> ID3:
    """Tags that have a frame of their own; others as user-defined text."""
    made = ID3()
    for name, values in tags.items():
        if name in EasyID3.Set:
            EasyID3.Set[name](made, name, values)
        else:
            made.add(TXXX(encoding=Encoding.UTF8, desc=name, text=values))
    return made
