"""One place for the options of everything that the audio callback may run, and for its cache."""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    root = Path(base).expanduser() / "stembridge" / "compiled"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / "stembridge-compiled"
    return root


def _use_cache_of_this_source() -> None:
    """Keep one cache per state of this package's source.

    Numba checks only the file a function stands in: a caller cached before a callee changed would run the old
    callee. `NUMBA_CACHE_DIR`, where set, is left alone.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    root = _cache_root()
    mine = root / digest.hexdigest()[:16]
    if not mine.exists():
        drop_old_caches(root)
    numba.config.CACHE_DIR = str(mine)  # type: ignore[attr-defined]


def drop_old_caches(root: Path, keep: int = 4) -> None:
    """Remove all but the `keep` newest caches below `root`."""
    if not root.exists():
        return
    for old in sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def is_cached(module: str, function: str) -> bool:
    """Whether a compiled function lies ready; `module` without its packages."""
    directory = Path(numba.config.CACHE_DIR or "")  # type: ignore[attr-defined]
    mine = f"{module}.{function}-*.py{sys.version_info.major}{sys.version_info.minor}.nbi"
    return directory.is_dir() and any(directory.rglob(mine))


def compiled(function: Function) -> Function:
    """Compile `function` so that a C callback may call it and Python may too.

    The default error model leaves a raise path that takes the GIL inside a callback; `error_model="numpy"`
    does not (a division by zero gives zero or inf). Inlined, no call has a status that could ask for a raise
    and counting references to C memory vanishes: a callback names no symbol of the interpreter at all.
    Compiled code is cached on disk and releases the GIL.

    Threads: what comes out may be called by any thread, in any process.
    """
    compile_ = numba.njit(error_model="numpy", nogil=True, cache=True, forceinline=True)
    return cast(Function, compile_(function))


def inlined(function: Function) -> Function:
    """Copy `function` into the compiled functions that call it; by itself it is never compiled.

    For the outer levels of the callback: `compiled` all the way up would compile the innermost code once
    for each level.

    Threads: as `compiled`.
    """
    return cast(Function, numba.njit(error_model="numpy", nogil=True, inline="always")(function))


_use_cache_of_this_source()
