"""`stembridge latency`, `devices` and `doctor`: commands that look and report."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from host.errors import guarded
from host.options import (
    allowance_option,
    chain_option,
    framing_option,
    json_option,
    model_option,
    reserve_option,
)
from host.settings import UNKNOWN_BLOCK_FRAMES, EngineSettings


@click.command(short_help="Show where the latency comes from, item by item.")
@model_option
@framing_option
@click.option("--rate", type=int, default=44100, show_default=True, help="Sample rate in Hz.")
@click.option(
    "--block",
    type=click.IntRange(0, 8192),
    default=0,
    help="Constant device block in frames; 0: any up to 1024.",
)
@allowance_option
@chain_option
@reserve_option
@json_option
@guarded
def latency(
    model: str,
    framing: str,
    rate: int,
    block: int,
    allowance_ms: float,
    chain: Path | None,
    reserve_frames: int,
    as_json: bool,
) -> None:
    """Print the latency from input to output, item by item.

    It is what `live` declares with the same settings and a device of that block. Without --block
    the device is taken to give blocks of up to 1024 frames; `live` sees them and mostly declares less.

    \b
    Examples:
      stembridge latency --block 128
      stembridge latency --block 256 --rate 48000 --allowance-ms 5 --json
    """
    from host.app import BlockRange, held_frames, latency_budget
    from host.models import Execution, describe
    from host.plugins import load_chains

    settings = EngineSettings(
        model=model, allowance_ms=allowance_ms, chains=chain, reserve_frames=reserve_frames
    )
    facts = describe(model, rate, Execution(framing))
    blocks = BlockRange(block, block) if block > 0 else BlockRange(1, UNKNOWN_BLOCK_FRAMES)
    chains = load_chains(chain, facts.stem_names) if chain else {}
    budget = latency_budget(settings, facts, rate, blocks, held_frames(chains, facts, rate))
    if as_json:
        click.echo(json.dumps(budget.as_dict()))
        return
    table = Table("item", "frames", "ms", "why", box=None)
    for name, frames, milliseconds, why in budget.rows():
        table.add_row(name, str(frames), f"{milliseconds:.2f}", why, style="bold" if name == "total" else "")
    Console().print(table)


@click.command(short_help="List the sound devices.")
@json_option
@guarded
def devices(as_json: bool) -> None:
    """List the sound devices; use the number or part of the name with `live --input/--output`."""
    from host.audio_device import devices_as_rows, devices_as_text
    from host.portaudio import list_devices

    found = list_devices()
    click.echo(json.dumps(devices_as_rows(found)) if as_json else devices_as_text(found))


@click.command(short_help="Say what is missing on this machine and how to get it.")
@json_option
@guarded
def doctor(as_json: bool) -> None:
    """Check what stembridge needs on this machine, and say how to get what is missing.

    For some seconds the installed profiles separate noise, hop by hop as live but without a device: the last
    row says which of them suits this machine. Close what else computes meanwhile.
    """
    from host.doctor import examine
    from host.speed import findings

    rows = examine() + findings()
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows]))
        return
    table = Table("", "what", "found", "remedy", box=None)
    for row in rows:
        table.add_row(
            "[green]ok[/]" if row.ok else "[red]no[/]", row.name, row.detail, "" if row.ok else row.remedy
        )
    Console().print(table)
