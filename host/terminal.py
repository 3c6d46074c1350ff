"""What `live` shows and which keys it takes."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from host.registry import path_name
from streaming.framing import gain_to_db
from streaming.health import PEAK_INPUT, PEAK_OUTPUT
from streaming.snapshot import RESIDUAL

METER_CELLS = 32
METER_FLOOR_DB = -60.0
# The shifted digits of the usual keyboards; where yours differ, OSC has every solo.
SOLO_KEYS = {"!": 0, "@": 1, '"': 1, "#": 2, "§": 2, "£": 2, "$": 3}
HELP = "1-4 mute   shift+1-4 solo   0 residual mute   b bypass   q quit"


def meter_bar(peak: float) -> Text:
    """A peak (amplitude) as a bar from -60 to 0 dBFS, red above."""
    db = max(gain_to_db(float(peak)), METER_FLOOR_DB)
    cells = round((db - METER_FLOOR_DB) / -METER_FLOOR_DB * METER_CELLS)
    filled = min(max(cells, 0), METER_CELLS)
    colour = "red" if db > 0.0 else "yellow" if db > -6.0 else "green"
    return Text("█" * filled, colour) + Text("·" * (METER_CELLS - filled), "dim") + Text(f" {db:6.1f}", "dim")


def strip_table(stem_names: tuple[str, ...], peaks: Any, values: dict[str, Any]) -> Table:
    """One row per strip: meter, fader, switches; then input and output."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    for number, name in enumerate((*stem_names, "residual"), 1):
        index = RESIDUAL if name == "residual" else number - 1
        path = f"/stem/{path_name(name)}"
        mute, solo = values.get(f"{path}/mute"), values.get(f"{path}/solo")
        state = Text("M" if mute else "-", "red") + Text("S" if solo else "-", "yellow")
        key = "0" if name == "residual" else str(number)
        gain = Text(f"{values.get(f'{path}/gain_db', 0.0):+.1f} dB")
        table.add_row(Text(key, "dim"), Text(name), meter_bar(peaks[index]), state, gain)
    table.add_row("", Text("in", "dim"), meter_bar(peaks[PEAK_INPUT]))
    table.add_row("", Text("out", "bold"), meter_bar(peaks[PEAK_OUTPUT]))
    return table


def screen(stem_names: tuple[str, ...], peaks: Any, values: dict[str, Any], status: str, news: str) -> Group:
    """The whole display."""
    bypass = Text("  BYPASS", "bold red") if values.get("/bypass") else Text("")
    strips = strip_table(stem_names, peaks, values)
    return Group(Text(status, "bold"), strips, Text(HELP, "dim") + bypass, Text(news, "yellow"))


def key_message(key: str, stem_names: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any] | None:
    """The message for the control process that a key stands for, or None."""
    if key == "b":
        path = "/bypass"
    elif key == "0":
        path = "/stem/residual/mute"
    elif key.isdecimal() and 1 <= int(key) <= len(stem_names):
        path = f"/stem/{path_name(stem_names[int(key) - 1])}/mute"
    elif SOLO_KEYS.get(key, len(stem_names)) < len(stem_names):
        path = f"/stem/{path_name(stem_names[SOLO_KEYS[key]])}/solo"
    else:
        return None
    return {"set": path, "value": not values.get(path, False)}


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """A function that waits up to so many seconds for a key and gives it, or ''.

    Without a terminal on stdin it only waits. The terminal is as it was afterwards.
    """
    if not sys.stdin.isatty():
        yield _no_key
    elif os.name == "nt":
        yield _windows_key
    else:
        with _cbreak():
            yield _posix_key


def _no_key(timeout_s: float) -> str:
    import time

    time.sleep(timeout_s)
    return ""


@contextlib.contextmanager
def _cbreak() -> Iterator[None]:
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _posix_key(timeout_s: float) -> str:
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return sys.stdin.read(1) if ready else ""


def _windows_key(timeout_s: float) -> str:
    import msvcrt
    import time

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if msvcrt.kbhit():  # type: ignore[attr-defined]
            key: str = msvcrt.getwch()  # type: ignore[attr-defined]
            return key
        time.sleep(0.01)
    return ""
