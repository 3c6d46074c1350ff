"""Files that are whole or not there, however the process that writes them ends."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside `path` that takes its name when it is done; an older one is replaced at once.

    Errors: OSError, and all is as it was. Threads: one for each path.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
