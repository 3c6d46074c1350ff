"""The one table of every control: what exists, what it may be set to, what it is set to, who is told.

Every surface (OSC, keys, presets) writes through `Registry.set`; the callback sees the outcome as a record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from host.presets import PRESETS, RESIDUAL_NAME, PresetError, preset_switches
from streaming.framing import db_to_gain, gain_to_db
from streaming.snapshot import RESIDUAL, neutral_controls

Value = bool | float | str
Kind = Literal["float", "bool", "choice", "action", "status"]
Listener = Callable[[str, Value, Hashable], None]
"""Called with path, new value and the writer (None where the registry itself is the writer)."""

CLOSED_DB = -90.0
"""A fader at its lower end is closed: gain 0, not -90 dB."""
FULL_DB = 10.0
STATUS = {
    "latency_ms": ("ms", "declared latency from input to output"),
    "load": ("", "compute time of a hop / hop duration, newest"),
    "late_hops": ("hops", "hops that came too late to be heard"),
    "xruns": ("blocks", "blocks that the device reported as broken"),
}
NOT_IN_A_PATH = re.compile(r"[\s#*,/?\[\]{}]|[^\x21-\x7e]")


class ControlError(ValueError):
    """A write or a query that the registry refuses, in one line."""


@dataclass(frozen=True)
class Control:
    """One row of the table. `minimum` and `maximum` bound floats; `choices` bound choices and actions."""

    path: str
    kind: Kind
    default: Value
    doc: str
    unit: str = ""
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()

    def accept(self, value: object) -> Value:
        """`value` as this control keeps it: typed, clamped; ControlError if it can not be."""
        if self.kind == "status":
            raise ControlError(f"{self.path} can only be read")
        if self.kind == "float":
            return min(max(self._number(value), self.minimum), self.maximum)
        if self.kind == "bool":
            return self._switch(value)
        if value in self.choices:
            return str(value)
        raise ControlError(f"{self.path} takes one of {', '.join(self.choices)}, not {value!r:.40}")

    def _number(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ControlError(f"{self.path} takes a number, not {value!r:.40}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ControlError(f"{self.path} takes a finite number, not {value!r:.40}")
        return number

    def _switch(self, value: object) -> bool:
        if isinstance(value, int | float) and value in (0, 1):
            return bool(value)
        raise ControlError(f"{self.path} takes true or false (1 or 0), not {value!r:.40}")


def gain_control(path: str, doc: str) -> Control:
    """A fader in dB; its lower end is closed."""
    return Control(path, "float", 0.0, doc, "dB", CLOSED_DB, FULL_DB)


def strip_controls(name: str) -> list[Control]:
    """The three controls of one strip, as `/stem/{name}/...`."""
    root = f"/stem/{name}"
    return [
        gain_control(f"{root}/gain_db", f"fader of {name}; {CLOSED_DB:g} is closed"),
        Control(f"{root}/mute", "bool", False, f"take {name} out of the mix"),
        Control(f"{root}/solo", "bool", False, f"hear {name} and other soloed strips only"),
    ]


def desk_controls() -> list[Control]:
    """The controls that are not a strip's."""
    return [
        Control("/bypass", "bool", False, "hear the input instead of the mix, at the same latency"),
        Control(
            "/fallback",
            "choice",
            "dry",
            "what a missing stem leaves behind: its part of the input, or silence if it is muted",
            choices=("dry", "silence"),
        ),
        gain_control("/output/gain_db", "fader of the whole mix, before the limiter"),
        Control("/preset/load", "action", "", "set every mute and solo at once", choices=tuple(PRESETS)),
        *(Control(f"/status/{key}", "status", 0.0, doc, unit) for key, (unit, doc) in STATUS.items()),
    ]


def path_name(stem: str) -> str:
    """A stem's name as it stands in a path: characters that OSC reserves become underscores."""
    return NOT_IN_A_PATH.sub("_", stem)


class Registry:
    """Keeps the value of every control and tells listeners what changed.

    Parameters
    ----------
    stem_names
        The model's stems in the order of its strips; the residual's strip comes by itself.

    Raises
    ------
    ControlError
        Too many stems, or two that would share a path.

    Threads: one; the control process's event loop.
    """

    def __init__(self, stem_names: Sequence[str]) -> None:
        strips = [path_name(stem) for stem in stem_names]
        if len(strips) > RESIDUAL:
            raise ControlError(
                f"the desk has {RESIDUAL} stem strips, the model {len(strips)} stems; select fewer stems"
            )
        if len({*strips, RESIDUAL_NAME}) <= len(strips):
            raise ControlError(f"stem names must differ, also from '{RESIDUAL_NAME}': {', '.join(strips)}")
        self.strips = {**{name: index for index, name in enumerate(strips)}, RESIDUAL_NAME: RESIDUAL}
        rows = [row for name in self.strips for row in strip_controls(name)] + desk_controls()
        self.controls = {row.path: row for row in rows}
        self.values: dict[str, Value] = {row.path: row.default for row in rows}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` on every change of a value, in the order of the changes."""
        self._listeners.append(listener)

    def control(self, path: str) -> Control:
        """The row of `path`, matched exactly; ControlError if there is none."""
        try:
            return self.controls[path]
        except KeyError:
            raise ControlError(
                f"there is no control {path!r:.80}; stems here: {', '.join(self.strips)}"
            ) from None

    def get(self, path: str) -> Value:
        """The value at `path`; for an action, what was last asked of it."""
        return self.values[self.control(path).path]

    def set(self, path: str, value: object, writer: Hashable = None) -> Value:
        """Write a control and return what was kept (clamped).

        Raises
        ------
        ControlError
            Unknown path, wrong type, NaN or infinite, read-only, or a preset that does not fit the model.
        """
        control = self.control(path)
        accepted = control.accept(value)
        if control.kind == "action":
            self._load_preset(str(accepted))
        self._keep(path, accepted, writer)
        return accepted

    def report(self, status: str, value: float) -> None:
        """Set the read-only `/status/{status}`."""
        self._keep(f"/status/{status}", value, None)

    def _load_preset(self, name: str) -> None:
        try:
            switches = preset_switches(name, [strip for strip in self.strips if strip != RESIDUAL_NAME])
        except PresetError as error:
            raise ControlError(str(error)) from None
        for (strip, switch), on in switches.items():
            # The writer wrote the preset's path, not these, so it is told of them like everybody else.
            self._keep(f"/stem/{strip}/{switch}", on, None)

    def _keep(self, path: str, value: Value, writer: Hashable) -> None:
        if self.values[path] == value:
            return
        self.values[path] = value
        for listener in self._listeners:
            listener(path, value, writer)

    def record(self) -> NDArray[np.void]:
        """The CONTROLS record of all values, shape [1]: linear gains, switches 0 or 1."""
        record = neutral_controls()
        for name, strip in self.strips.items():
            record["strip_gain"][0, strip] = self._gain(f"/stem/{name}/gain_db")
            record["strip_mute"][0, strip] = self.values[f"/stem/{name}/mute"]
            record["strip_solo"][0, strip] = self.values[f"/stem/{name}/solo"]
        record["output_gain"] = self._gain("/output/gain_db")
        record["bypass"] = self.values["/bypass"]
        record["fallback_silence"] = self.values["/fallback"] == "silence"
        return record

    def from_record(self, record: NDArray[np.void]) -> None:
        """Take all values over from a CONTROLS record [1], so that a new process keeps the old one's faders.

        Listeners are not told: nobody has heard of anything else yet.
        """
        row = record[0]
        for name, strip in self.strips.items():
            self.values[f"/stem/{name}/gain_db"] = fader_db(row["strip_gain"][strip])
            self.values[f"/stem/{name}/mute"] = bool(row["strip_mute"][strip])
            self.values[f"/stem/{name}/solo"] = bool(row["strip_solo"][strip])
        self.values["/output/gain_db"] = fader_db(row["output_gain"])
        self.values["/bypass"] = bool(row["bypass"])
        self.values["/fallback"] = "silence" if row["fallback_silence"] else "dry"

    def _gain(self, path: str) -> float:
        level_db = float(self.values[path])
        return 0.0 if level_db <= CLOSED_DB else db_to_gain(level_db)


def fader_db(gain: float) -> float:
    """The fader position of a linear gain; rounded, since 1e-9 dB are the conversion's and not the user's."""
    return CLOSED_DB if gain <= 0.0 else round(gain_to_db(float(gain)), 9)
