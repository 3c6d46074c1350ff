"""Options that several commands share: one name, one default and one help text each."""

from __future__ import annotations

from pathlib import Path

import click

from host.models import DEFAULT_MODEL
from host.settings import DEFAULT_ALLOWANCE_MS

DEVICES = ("cpu", "cuda", "auto")


def _names(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


model_option = click.option(
    "--model", default=DEFAULT_MODEL, show_default=True, help="Model id, file, or `signature`."
)
stems_option = click.option(
    "--stems", metavar="A,B", default="", callback=_names, help="Only these stems; all by default."
)
device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where the model runs; auto takes a GPU where there is one.",
)
chain_option = click.option(
    "--chain", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with effects per stem."
)
allowance_option = click.option(
    "--allowance-ms",
    type=click.FloatRange(0, 1000),
    default=DEFAULT_ALLOWANCE_MS,
    show_default=True,
    help="Time for computing a hop; part of the latency.",
)
reserve_option = click.option(
    "--reserve-frames", type=click.IntRange(min=0), default=0, help="Pad the latency to this many frames."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
