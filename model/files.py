"""Files that are whole or not there, however the process that writes them ends."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def has_unicode_name(path: Path) -> bool:
    """Whether libraries that know names as Unicode alone can open a path; other bytes are lone surrogates."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def require_file_or_nothing(path: Path) -> None:
    """Raises FileExistsError where something else has that name: replacing a device breaks the machine."""
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "something that is no file has this name", str(path))


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which takes its name at the end; an older file is replaced at once.

    Errors: OSError, also as `require_file_or_nothing`; after this or any other all is as it was.
    Threads: one for each path.
    """
    require_file_or_nothing(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as `whole` does. Errors and Threads: as there."""
    with whole(path) as part:
        part.write_bytes(content)
