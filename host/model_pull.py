"""Getting models: from the catalogue's addresses or from the user's files, checked and imported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host.digests import record_of, recorded, sha256_of, source_record, write_record
from host.downloads import PATIENT, Patience, download
from host.model_import import ImportRefusedError, Origin, import_model
from host.msst_yaml import MAX_BYTES, published_settings
from host.progress import file_bars
from model.catalogue import Entry, check_name, installed_path, models_folder, published_models
from model.header import CheckpointError, read_header

Say = Callable[[str], None]

LARGEST_BYTES = 4 << 30
"""The cap where no size is on record."""


def pull_model(entry: Entry, config: Path | None, say: Say, patience: Patience = PATIENT) -> Path:
    """Download a published model and import it; the path of its file.

    What was downloaded goes away once it is imported, or found to be another file than the one on record.
    Errors: DownloadError, ImportRefusedError, YamlError, OSError. Threads: main.
    """
    if installed_path(entry.id).exists():
        raise ImportRefusedError(f"model {entry.id!r} is here already; `stembridge models remove` it first")
    stated = _stated(entry, config, patience)
    suffix = Path(entry.address.partition("?")[0]).suffix
    fetched = models_folder() / "downloads" / f"{entry.id}{suffix}"
    if not fetched.exists():
        _fetch(entry, fetched, patience)
    try:
        path = _import_entry(fetched, entry, stated, say)
    except ImportRefusedError:
        fetched.unlink()  # the wrong file, or a broken one: no use in going on from it
        raise
    fetched.unlink()
    if not entry.sha256:
        write_record(source_record(entry.id), _source_digest(path), fetched.name)
    return path


def _fetch(entry: Entry, target: Path, patience: Patience) -> None:
    most = entry.bytes or round(entry.about_mb * 1.02e6) + 1_000_000 if entry.bytes or entry.about_mb else 0
    with file_bars() as open_bar:
        download(entry.address, target, most or LARGEST_BYTES, entry.bytes, open_bar(entry.id), patience)


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
    return import_model(file, entry.id, stated, origin, say, expected)


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


def remove_model(path: Path) -> Path:
    """Remove an imported model and its record; what is known of the published file stays. Threads: any."""
    path.unlink()
    record_of(path).unlink(missing_ok=True)
    return path
