"""Where results go: folders that can be written, files that are whole or not there."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.errors import UserError, one_line
from model.files import require_file_or_nothing, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class OutputError(UserError):
    """A place that results cannot be written to."""


def writable_folder(path: Path) -> Path:
    """Make `path` a folder that takes files, before any work is done for it. Errors: OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise OutputError(
            f"{path}: cannot hold results ({reason}); choose a folder you may write to."
        ) from None


@contextlib.contextmanager
def results_folder(path: Path) -> Iterator[Path]:
    """A `writable_folder` for the work inside; if it puts nothing there, no new folder stays behind.

    Errors: OutputError.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    writable_folder(path)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; an older one is replaced at once. Errors: OutputError.

    What is not Unicode, as some names of files are not, is spelt out.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`. Errors: OutputError."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror}); choose another place.")


def write_findings(stem: Path, found: dict[str, Any], table: str, figure: Figure) -> None:
    """STEM.json, .md and .png of what was found, as `write_text` each."""
    write_text(stem.with_suffix(".json"), json.dumps(found, indent=1, allow_nan=False) + "\n")
    write_text(stem.with_suffix(".md"), table)
    write_picture(stem.with_suffix(".png"), figure)


def picture_place(path: Path) -> Path:
    """A name that `write_picture` can use, before any work is done for it; its folder is made.

    Errors: OutputError.
    """
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: pictures are PNG files; take a name that ends in .png.")
    writable_folder(path.parent)
    try:
        require_file_or_nothing(path)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part"):
            return path
    except OSError as error:
        raise _unwritable(path, error) from None


def write_picture(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG, as `write_text`. Errors: OutputError."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_bytes(path, png.getvalue())
