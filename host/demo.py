"""`stembridge demo`: the bundled song through the live engine in real time, heard, measured and reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from host.assets import demo_stem_files
from host.audio_files import read_audio, write_audio
from host.compiled_cache import cache_is_warm
from host.errors import guarded
from host.models import Execution
from host.options import (
    NumberRange,
    allowance_option,
    chain_option,
    execution_options,
    json_option,
    model_option,
)
from host.outputs import results_folder, write_text
from host.presets import PRESETS
from host.progress import bar_with_meters, stderr_console
from host.registry import Registry
from host.settings import EngineSettings
from model.metrics import null_residual_db, si_sdr_or_none
from streaming.separator import Audio

if TYPE_CHECKING:  # compiled on first import, which should not hold up --help
    from host.take import Performance, Take


MIXDOWN = "What the engine plays with this preset."


@dataclass(frozen=True)
class Song:
    """The truth stems [2, frames] by name; their sum is the mix."""

    stems: dict[str, Audio]
    rate_hz: int

    @property
    def mix(self) -> Audio:
        mix: Audio = np.sum(list(self.stems.values()), axis=0, dtype=np.float32)
        return mix


def load_song(seconds: float | None = None) -> Song:
    """The bundled song, or its first `seconds`. Errors: AssetError, AudioFileError."""
    files = {name: read_audio(path) for name, path in demo_stem_files().items()}
    rate_hz = next(iter(files.values()))[1]
    frames = min(audio.shape[1] for audio, _ in files.values())
    if seconds is not None:
        frames = min(frames, round(seconds * rate_hz))
    return Song({name: audio[:, :frames] for name, (audio, _) in files.items()}, rate_hz)


@click.command(short_help="Hear and measure a separation of the bundled song in real time.")
@click.option(
    "--out",
    metavar="DIR",
    default="demo-out",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where sounds and report.html go.",
)
@model_option
@execution_options
@chain_option
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="karaoke",
    show_default=True,
    help="Which mixdown is written beside the stems.",
)
@click.option(
    "--block",
    type=click.IntRange(1, 8192),
    default=128,
    show_default=True,
    help="Frames per block of the device.",
)
@allowance_option
@click.option("--seconds", type=NumberRange(min=0.1), help="Play only so much of the song.")
@json_option
@guarded
def demo(
    out: Path,
    model: str,
    chain: Path | None,
    preset: str,
    block: int,
    allowance_ms: float,
    seconds: float | None,
    as_json: bool,
    **execution: Any,
) -> None:
    """Play a bundled song through the live engine in real time, and measure it. Needs no sound card.

    \b
    Examples:
      stembridge demo                             20 seconds, then open demo-out/report.html
      stembridge demo --preset drumless --out drumless
      stembridge demo --chain effects.toml --block 256
      stembridge demo --model signature --seconds 3 --json

    The song was made by the project, so its stems are known and every separated stem gets a score. The
    engine plays at unity gains, which lets the null test compare its output with the delayed input; the
    stems are recorded while it plays, and the mixdown of the preset is then rendered from them through the
    same compiled mixing law. Hops that came too late to be heard are counted, and are in the files all the
    same. The folder gets mix.wav, STEM.wav, PRESET.wav and report.html.
    """
    settings = EngineSettings(
        model=model, allowance_ms=allowance_ms, chains=chain, execution=Execution(**execution)
    )
    with results_folder(out):
        song = load_song(seconds)
        take, sounds = play_and_render(settings, song, block, preset)
        measures = {"model": model, "block_frames": block, **measure(take, song)}
        paths = {name: out / f"{name}.wav" for name in sounds}
        for name, path in paths.items():
            write_audio(path, sounds[name], song.rate_hz)
        page = out / "report.html"
        write_report(page, measures, take, sounds, song)
    where = {"files": {name: str(path) for name, path in paths.items()}, "report": str(page)}
    if as_json:
        click.echo(json.dumps({**measures, **where}))
    else:
        show(measures, take, page)


def play_and_render(
    settings: EngineSettings, song: Song, block_frames: int, preset: str
) -> tuple[Take, dict[str, Audio]]:
    """Play the song; the take, and the sounds that are worth a file. Errors as `perform`."""
    _compile()
    from host.render import render_mix

    take, controls = perform(settings, song, block_frames, preset)
    mixdown = render_mix(take.spec, controls, song.mix, take.raw, take.wet, block_frames)
    stems = dict(zip(take.spec.stem_names, take.stems, strict=True))
    return take, {"mix": song.mix, **stems, preset: mixdown}


def _compile() -> None:
    """Have the audio callback compiled before any clock runs."""
    if not cache_is_warm():
        stderr_console().print("Compiling audio callback and model (once) …")
    from host.render import compile_engine

    compile_engine()


def perform(
    settings: EngineSettings, song: Song, block_frames: int, preset: str
) -> tuple[Take, NDArray[np.void]]:
    """Play the song; what came of it, and the faders of `preset`.

    Errors: StartError, ControlError, and what opening a model or a chain file raises.
    """
    from host.take import Performance

    console = stderr_console()
    performance = Performance(settings, song.rate_hz, song.mix, block_frames, event_printer(console))
    try:
        controls = preset_controls(preset, performance.stem_names)
        with console.status("Starting the separator …"):
            performance.start()
        return _play(performance), controls
    finally:
        performance.close()


def _play(performance: Performance) -> Take:
    with bar_with_meters("Playing", performance.stem_names, performance.peaks) as update:
        return performance.play(update)


def preset_controls(preset: str, stem_names: tuple[str, ...]) -> NDArray[np.void]:
    """The CONTROLS record of a preset. Errors: ControlError where the model lacks its stem."""
    registry = Registry(stem_names)
    registry.set("/preset/load", preset)
    return registry.record()


def event_printer(console: Console) -> Callable[..., None]:
    """Tells of children that failed once they had been running; a failing start has its own line."""
    running: set[str] = set()

    def on_event(event: str, **fields: Any) -> None:
        if event == "child" and fields["state"] == "running":
            running.add(fields["name"])
        elif event == "child" and fields["name"] in running and fields["detail"]:
            console.print(f"The {fields['name']} process {fields['detail']}; it is started again.")
        elif event in ("failed", "compromise"):
            console.print(fields["reason"])

    return on_event


def measure(take: Take, song: Song) -> dict[str, Any]:
    """The figures of a take, as JSON values.

    A score is the SI-SDR of what the separator wrote, before any chain, against the truth at the same frames;
    None where one of them is silent.
    """
    played = song.mix + (take.stems - take.raw.audio).sum(axis=0)  # chains change the output by that much
    scored = [(i, name) for i, name in enumerate(take.spec.stem_names) if name in song.stems]
    return {
        "sample_rate_hz": song.rate_hz,
        "duration_s": song.mix.shape[1] / song.rate_hz,
        "latency_frames": take.budget.total_frames,
        "latency_ms": take.budget.total_ms,
        "hops": take.hops,
        "late_hops": take.late_hops,
        "load_p50": take.times.percentile(50),
        "load_p99": take.times.percentile(99),
        "load_max": take.times.percentile(100),
        "xruns": take.xruns,
        "null_residual_db": float(null_residual_db(take.output, played)),
        "si_sdr_db": {name: si_sdr_or_none(take.raw.audio[i], song.stems[name]) for i, name in scored},
        "si_sdr_mixture_db": {name: si_sdr_or_none(song.mix, song.stems[name]) for _, name in scored},
    }


def write_report(
    path: Path, measures: dict[str, Any], take: Take, sounds: dict[str, Audio], song: Song
) -> None:
    """Write report.html. Errors: OutputError."""
    from host.report import Sound, build_report  # matplotlib takes a second to import

    stems = set(take.spec.stem_names)
    notes = {"mix": "What went in."} | dict.fromkeys(stems, "What came out as this stem.")
    tracks = [
        Sound(name, notes.get(name, MIXDOWN), audio, song.stems.get(name)) for name, audio in sounds.items()
    ]
    write_text(path, build_report(measures, take.budget, take.times.loads, tracks))


def show(measures: dict[str, Any], take: Take, page: Path) -> None:
    """The figures in words, on stdout."""
    from host.report import decibels

    console = Console(highlight=False)
    parts = ", ".join(f"{item.name} {item.frames}" for item in take.budget.items if item.frames)
    console.print(
        f"Latency        {measures['latency_ms']:.1f} ms = {measures['latency_frames']} frames ({parts})"
    )
    console.print(
        f"Hops           {measures['hops']}, late {measures['late_hops']}; "
        f"load p50 {measures['load_p50']:.2f}, p99 {measures['load_p99']:.2f}, max {measures['load_max']:.2f}"
    )
    console.print(f"Xruns          {measures['xruns']}")
    console.print(
        f"Null residual  {measures['null_residual_db']:.0f} dB (alignment check, not a quality figure)"
    )
    table = Table("stem", "SI-SDR", "mixture", box=None)
    for name, value in measures["si_sdr_db"].items():
        table.add_row(name, decibels(value), decibels(measures["si_sdr_mixture_db"][name]))
    console.print(table)
    if measures["late_hops"]:
        console.print("Late hops: close other programs, or give the model more time with --allowance-ms.")
    console.print(f"Open {page}", soft_wrap=True)
