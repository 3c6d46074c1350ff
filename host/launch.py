"""Starts the interpreters of child processes, and starts them early where their arguments are known early.

Importing torch takes a child longer than anything else it does before its first hop, so a command launches
its separator first and does its own imports meanwhile. Light to import for the same reason.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_early: dict[tuple[str, ...], subprocess.Popen[str]] = {}


def _started(command: tuple[str, ...]) -> subprocess.Popen[str]:
    """A session of its own keeps a Ctrl-C meant for the audio process away until the sound has faded."""
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )


def launch_early(module: str, *arguments: str) -> None:
    """Start what `launch` will be asked for; never asked, it leaves with this process, when its stdin ends.

    Threads: the main thread.
    """
    command = (module, *arguments)
    if command not in _early:
        _early[command] = _started(command)


def dismiss_early() -> None:
    """Send away what was launched early and not asked for.

    Threads: the main thread.
    """
    for process in _early.values():
        process.kill()
        process.communicate()
    _early.clear()


def launch(module: str, *arguments: str) -> subprocess.Popen[str]:
    """The process `python -m MODULE ARGUMENTS` with pipes; the one launched early, once, if there is one.

    Threads: one at a time.
    """
    early = _early.pop((module, *arguments), None)
    return early if early is not None and early.poll() is None else _started((module, *arguments))
