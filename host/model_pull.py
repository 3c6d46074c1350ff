"""Getting models: from the catalogue's addresses or from the user's files, checked and imported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host.digests import record_of, recorded, sha256_of, source_record, write_record
from host.downloads import PATIENT, Patience, download, downloaded_files
from host.model_import import ImportRefusedError, Origin, WrongFileError, import_model, make_folder
from host.msst_yaml import MAX_BYTES, published_settings
from host.progress import file_bars
from model.catalogue import (
    Entry,
    check_name,
    imported_models,
    installed_path,
    models_folder,
    published_models,
)
from model.header import CheckpointError, read_header

Say = Callable[[str], None]

LARGEST_BYTES = 4 << 30
"""The cap where no size is on record."""


def pull_model(entry: Entry, config: Path | None, say: Say, patience: Patience = PATIENT) -> Path:
    """Download a published model and import it; the path of its file.

    What was downloaded goes away once it is imported, or found unreadable or another file than the one on
    record; it stays where only the settings do not fit it.
    Errors: DownloadError, ImportRefusedError, YamlError, OSError. Threads: main.
    """
    if installed_path(entry.id).exists():
        raise ImportRefusedError(f"model {entry.id!r} is here already; `stembridge models remove` it first")
    make_folder(models_folder())
    stated = _stated(entry, config, patience)
    fetched = _download_path(entry)
    if not fetched.exists():
        _fetch(entry, fetched, patience)
    try:
        path = _import_entry(fetched, entry, stated, say)
    except WrongFileError:
        fetched.unlink()  # no use in going on from it
        raise
    except ImportRefusedError as error:
        raise ImportRefusedError(
            f"{error}; the download is kept: try `stembridge models pull {entry.id} --config YAML`, or"
            f" import it under an --id of your own if the catalogue's entry {entry.id!r} is wrong"
        ) from None
    fetched.unlink()
    return path


def _download_path(entry: Entry) -> Path:
    suffix = Path(entry.address.partition("?")[0]).suffix
    return models_folder() / "downloads" / f"{entry.id}{suffix}"


def _most_bytes(entry: Entry) -> int:
    """The cap on a download: generous where the catalogue is not sure of the size."""
    if entry.bytes or not entry.about_mb:
        return entry.bytes or LARGEST_BYTES
    margin = 3.0 if "size" in entry.unsure else 1.02
    return round(entry.about_mb * 1e6 * margin) + 1_000_000


def _fetch(entry: Entry, target: Path, patience: Patience) -> None:
    with file_bars() as open_bar:
        download(entry.address, target, _most_bytes(entry), entry.bytes, open_bar(entry.id), patience)


def _stated(entry: Entry, config: Path | None, patience: Patience) -> dict[str, Any]:
    """The catalogue's settings, with those of a YAML where one is given, or needed for the stems."""
    if config is not None:
        return merged(published_settings(config), dict(entry.settings), "the catalogue")
    if entry.stem_names or not entry.config_address:
        return dict(entry.settings)
    with tempfile.TemporaryDirectory() as folder:
        path = download(entry.config_address, Path(folder) / f"{entry.id}.yaml", MAX_BYTES, patience=patience)
        return merged(published_settings(path), dict(entry.settings), "the catalogue")


def _import_entry(file: Path, entry: Entry, stated: dict[str, Any], say: Say) -> Path:
    origin = Origin(entry.title, entry.address, entry.licence)
    expected = entry.sha256 or recorded(source_record(entry.id))
    path = import_model(file, entry.id, stated, origin, say, expected)
    if not expected:
        upstream = Path(entry.address.partition("?")[0]).name
        write_record(source_record(entry.id), _source_digest(path), upstream)
    return path


def _source_digest(path: Path) -> str:
    """The hash of the published file, as the card of the model states it."""
    return read_header(path)[1].source.rpartition("sha256 ")[2].rstrip(")")


def import_own(
    file: Path, name: str, config: Path | None, zero_dc: bool | None, licence: str, source: str, say: Say
) -> Path:
    """Import the user's file as `name`; an id of the catalogue brings its settings and its recorded hash.

    Errors: ImportRefusedError, CatalogueError, YamlError, OSError. Threads: main.
    """
    check_name(name)
    stated = published_settings(config) if config is not None else {}
    if zero_dc is not None:
        stated = merged(stated, {"zero_dc": zero_dc}, "--zero-dc/--keep-dc")
    entry = published_models().get(name)
    if entry is not None:
        return _import_entry(file, entry, merged(stated, dict(entry.settings), "the catalogue"), say)
    origin = Origin(name, source or file.name, licence)
    return import_model(file, name, stated, origin, say)


def merged(from_yaml: dict[str, Any], other: dict[str, Any], other_name: str) -> dict[str, Any]:
    """Both together. Raises ImportRefusedError, naming both values, where they differ."""
    for name in from_yaml:
        if name in other and from_yaml[name] != other[name]:
            raise ImportRefusedError(
                f"{name} is {from_yaml[name]} in the YAML but {other[name]} by {other_name};"
                " correct the one that is wrong, or import the file under an --id of your own"
            )
    return from_yaml | other


def verdict(path: Path) -> str:
    """ "ok", or what is wrong with an imported model. Errors: OSError."""
    kept = recorded(record_of(path))
    if not kept:
        return "no sha256 was recorded"
    if sha256_of(path) != kept:
        return "changed since it was imported"
    try:
        read_header(path)
    except CheckpointError as error:
        return str(error)
    return "ok"


def remove_model(name: str) -> list[Path]:
    """Remove an imported model, its record and an unfinished download of it; what was there of these.

    What is known of the published file stays. Threads: any.
    """
    path, entry = imported_models().get(name), published_models().get(name)
    files = [path, record_of(path)] if path else []
    if entry is not None:
        files += downloaded_files(_download_path(entry))
    here = [file for file in files if file.exists()]
    for file in here:
        file.unlink()
    return here
