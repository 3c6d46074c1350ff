"""SHA-256 of files, and the records of them that lie beside the imported models."""

from __future__ import annotations

import hashlib
from pathlib import Path

from host.outputs import write_text
from model.catalogue import models_folder


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Errors: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> Path:
    """Where the digest of an imported model is kept, in the form that `sha256sum -c` reads."""
    return path.with_name(path.name + ".sha256")


def source_record(entry_id: str) -> Path:
    """Where the digest of a published file is kept from its first import on, also after a removal."""
    return models_folder() / f"{entry_id}.source.sha256"


def recorded(record: Path) -> str:
    """The digest in a record; "" where there is none."""
    return record.read_text(encoding="ascii", errors="replace").partition(" ")[0] if record.is_file() else ""


def write_record(record: Path, digest: str, name: str) -> None:
    """Write a record; it appears whole or not at all. Errors: OutputError."""
    write_text(record, f"{digest}  {name}\n")
