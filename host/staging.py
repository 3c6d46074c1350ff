"""Folders that appear whole or not at all, however the process that fills them ends."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from host.errors import one_line
from host.outputs import OutputError


def owner_suffix() -> str:
    """How the name of a hidden folder ends that `remove_abandoned` removes once this process is gone."""
    return f".{socket.gethostname()}-{os.getpid()}.part"


@contextlib.contextmanager
def staged(folder: Path, last: str) -> Iterator[Path]:
    """A hidden folder beside `folder` to fill; its files move there at the end, `last` after all others.

    A new folder gets its name at once. In one that exists, `last` is removed before anything changes and only
    files of the same names are replaced, so that nobody's own files are lost. An error leaves all as it was.
    Errors: OutputError.
    """
    part = folder.with_name(f".{folder.name}{owner_suffix()}")
    try:
        part.mkdir(parents=True)
        yield part
        _place(part, folder, last)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({one_line(error)}); choose another --out.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _place(part: Path, folder: Path, last: str) -> None:
    if not folder.exists():
        part.rename(folder)
        return
    (folder / last).unlink(missing_ok=True)
    for path in sorted(part.iterdir(), key=lambda path: (path.name == last, path.name)):
        path.replace(folder / path.name)


def remove_abandoned(parent: Path) -> None:
    """Remove what processes of this machine that were killed have left in a folder of folders."""
    left = re.compile(rf"\..+\.{re.escape(socket.gethostname())}-(\d+)\.part")
    for path in parent.glob(".*.part"):
        owner = left.fullmatch(path.name)
        if owner and not _is_alive(int(owner[1])):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
