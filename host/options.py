"""Options that several commands share: one name, one default and one help text each."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from host.models import DEFAULT_FRAMING, DEFAULT_MODEL
from host.settings import DEFAULT_ALLOWANCE_MS

P = ParamSpec("P")
R = TypeVar("R")

DEVICES = ("cpu", "cuda", "auto")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")


class NumberRange(click.FloatRange):
    """A range that NaN is not in: it is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not in the range {self._describe_range()}.", param, ctx)
        return number


def _names(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Profile (stage, live, studio), model id, file, or `signature`; MODEL@FRAMES and MODEL@all take"
    " another look-ahead that it was trained for.",
)
stems_option = click.option(
    "--stems", metavar="A,B", default="", callback=_names, help="Only these stems; all by default."
)
device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where it runs; auto takes a GPU where there is one (a causal model runs live on the CPU).",
)
framing_option = click.option(
    "--framing",
    metavar="NAME|W/H/A/X",
    help="Of published models: gpu (windows of 2 s, 100 ms latency), studio (4 s, 210 ms), or"
    " window/hop/look-ahead/fade in frames.",
    default=DEFAULT_FRAMING,
    show_default=True,
)
precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Of a model's products; auto is fp16 on a GPU, fp32 elsewhere. bf16 rounds ten times coarser"
    " than fp16.",
)
graphs_option = click.option(
    "--graphs",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="On a GPU: capture a hop's work once and replay it.",
)


def execution_options(command: Callable[P, R]) -> Callable[P, R]:
    """How a model is run live: the fields of `host.models.Execution`."""
    for option in (graphs_option, precision_option, device_option, framing_option):
        command = option(command)
    return command


chain_option = click.option(
    "--chain", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with effects per stem."
)
allowance_option = click.option(
    "--allowance-ms",
    type=NumberRange(0, 1000),
    default=DEFAULT_ALLOWANCE_MS,
    show_default=True,
    help="Time for computing a hop; part of the latency.",
)
reserve_option = click.option(
    "--reserve-frames", type=click.IntRange(min=0), default=0, help="Pad the latency to this many frames."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
