"""`stembridge bench`: what this machine can do, ours beside others in the same run."""

from __future__ import annotations

import json
import math
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from host.bench_rows import Row, as_table, in_order, picture
from host.errors import guarded, one_line
from host.live_times import builtin_rows, callback_rows, stream_rows
from host.machine import machine
from host.options import NumberRange, json_option
from host.outputs import picture_place, write_picture
from host.progress import file_bars
from model.catalogue import builtin_models

PARTS = ("callback", "built-in", "windows")
DEVICES = ("cpu", "cuda")
WIDTH_IN_FILES = 200

Task = tuple[str, Callable[[], Iterable[Row]]]
"""A title for the progress bar, and what measures."""


@click.command(short_help="Measure this machine, ours beside other programs.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    help="Only this part; repeatable. All by default.",
)
@click.option(
    "--device",
    "devices",
    type=click.Choice(DEVICES),
    multiple=True,
    help="Of windows and many streams: only this device; repeatable. Both by default.",
)
@click.option(
    "--seconds",
    type=NumberRange(0.05, 3600),
    default=3.0,
    show_default=True,
    help="How long each thing is measured; p99.9 wants thousands of hops.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the times into this PNG file."
)
@json_option
@guarded
def bench(
    parts: tuple[str, ...], devices: tuple[str, ...], seconds: float, plot: Path | None, as_json: bool
) -> None:
    """Measure this machine: close what else computes meanwhile.

    \b
    callback   the audio callback for blocks of 128 frames, 4 stems
    built-in   each built-in profile per hop on one core, HS-TasNet beside it;
               a thousand streams at once on a GPU
    windows    published shapes with random weights on sliding windows,
               BS-RoFormer beside them on the same windows

    Load is compute time over the sound's duration: below 1 keeps up with live sound. The roofline is the
    time that the products of a window, or reading its weights once, take at the speed of a large matrix
    product and a copy measured in the same run. Mask error and output are of FP16 against FP32. Other
    programs are measured where they are installed; where not, the row says how to get them. Rows of a GPU
    say why they were not measured where none can be used.

    \b
    Examples:
      stembridge bench
      stembridge bench --part built-in --seconds 30 --plot times.png
      stembridge bench --part windows --device cuda --json > gpu.json
    """
    if plot:
        picture_place(plot)
    _require(devices)
    rows: list[Row] = []
    facts = machine()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        rows.extend(_measured(tasks(parts or PARTS, devices or DEVICES, seconds)))
    finally:  # Ctrl-C and SIGTERM too leave what was measured until then
        told = in_order(rows)
        _show(told, facts, as_json)
        if plot:
            write_picture(plot, picture(told))


def _show(rows: Sequence[Row], facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        command = shlex.join(["stembridge", *sys.argv[1:]])
        told = {"machine": facts, "command": command, "rows": [_told(row) for row in rows]}
        click.echo(json.dumps(told, allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES, highlight=False)
    console.print(f"{facts['processor']}; GPU: {facts['gpu'] or 'none'}; {facts['system']}")
    console.print(as_table(rows))


def _told(row: Row) -> dict[str, object]:
    """JSON knows no number that is not finite."""
    figures = {name: value if math.isfinite(value) else None for name, value in row.figures.items()}
    return asdict(row) | {"figures": figures}


def _require(devices: Sequence[str]) -> None:
    """Errors: DeviceError where one that was asked for is not here."""
    if devices:
        from model.devices import usable  # torch, which the callback alone does not need

        for device in devices:
            usable(device)


def _measured(todo: Sequence[Task]) -> Iterator[Row]:
    """Rows of every task; a failure is one too."""
    with file_bars() as open_bar:
        for title, measure in todo:
            advance = open_bar(title)
            try:
                yield from measure()
            except Exception as error:  # of a peer's making too: what was measured so far must not be lost
                yield Row(title, "not measured", trouble=one_line(error)[:160])
            advance(1.0)


def tasks(parts: Sequence[str], devices: Sequence[str], seconds: float) -> list[Task]:
    """What there is to measure, in the order of PARTS."""
    makers: dict[str, Callable[[], Iterator[Task]]] = {
        "callback": lambda: iter([("callback", lambda: callback_rows(seconds))]),
        "built-in": lambda: _builtin_tasks(devices, seconds),
        "windows": lambda: _window_tasks(devices, seconds),
    }
    return [task for part in PARTS if part in parts for task in makers[part]()]


def _builtin_tasks(devices: Sequence[str], seconds: float) -> Iterator[Task]:
    for name in builtin_models():
        yield f"built-in {name}", partial(builtin_rows, name, seconds)
    if "cuda" in devices:
        yield "built-in, many streams", _on_gpu("built-in, many streams", partial(stream_rows, seconds))


def _window_tasks(devices: Sequence[str], seconds: float) -> Iterator[Task]:
    import torch

    from host.window_times import SHAPES, our_rows, peer_rows

    shapes = [(shape, torch.device(device)) for device in devices for shape in SHAPES[device]]
    for shape, device in shapes:
        name, measure = f"{shape.name}, {device}", partial(our_rows, shape, device, seconds)
        yield name, measure if device.type == "cpu" else _on_gpu(name, measure)
    for shape, device in shapes:  # later, since their compilers take minutes
        if shape.alone and (device.type == "cpu" or not _gpu_trouble()):
            yield f"{shape.name}, {device}, others", partial(peer_rows, shape, device, seconds)


def _on_gpu(group: str, measure: Callable[[], Iterable[Row]]) -> Callable[[], Iterable[Row]]:
    """The same where a GPU can be used; else a row that says why nothing was measured."""
    trouble = _gpu_trouble()
    return (lambda: [Row(group, "stembridge", trouble=f"not measured: {trouble}")]) if trouble else measure


def _gpu_trouble() -> str:
    import torch

    from model.devices import cuda_trouble

    return cuda_trouble(torch.cuda)
