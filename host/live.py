"""`stembridge live`: sound card in and out, meters in the terminal, keys and OSC on the faders."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import fields
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from host.app import LiveApp
from host.compiled_cache import cache_is_warm
from host.control_process import read_status
from host.errors import guarded, one_line
from host.models import Execution
from host.options import (
    NumberRange,
    allowance_option,
    chain_option,
    execution_options,
    model_option,
    reserve_option,
)
from host.osc import DEFAULT_HOST, DEFAULT_PORT, is_loopback
from host.portaudio import StreamSettings
from host.presets import PRESETS
from host.settings import EngineSettings, LiveSettings
from host.terminal import key_message, keyboard, screen
from streaming.health import HOPS, LATE_HOPS, MISSING_FRAMES, SEPARATOR, XRUNS

REFRESH_S = 0.06
OPEN_TO_ALL = "OSC on {} has no password: whoever reaches it can turn the faders; 127.0.0.1 keeps it here."
QUIET = ("child", "epoch", "streaming", "faded", "device_closed", "closed")


def channel_numbers(_ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """`1,2` (or, coming in, `1` for one channel on both sides) to channels counted from 0."""
    try:
        numbers = [int(part) - 1 for part in value.split(",")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or min(numbers) < 0:
        raise click.BadParameter(f"{value!r} is not one or two channel numbers like 1,2 or 3.")
    if param.name == "out_channels" and numbers[0] == numbers[-1]:
        raise click.BadParameter("stereo comes out: name two different channels like 1,2.")
    return numbers[0], numbers[-1]


@click.command(short_help="Sound card in, stems mixed, sound card out.")
@click.option("--input", "source", metavar="DEVICE", help="Input device: number or part of its name.")
@click.option("--output", "target", metavar="DEVICE", help="Output device: number or part of its name.")
@click.option("--rate", type=int, default=44100, show_default=True, help="Sample rate in Hz.")
@click.option(
    "--block",
    type=click.IntRange(0, 8192),
    default=0,
    help="Device block in frames; 0 takes what the device gives.",
)
@click.option(
    "--in-channels", default="1,2", show_default=True, callback=channel_numbers, help="Input channels."
)
@click.option(
    "--out-channels", default="1,2", show_default=True, callback=channel_numbers, help="Output channels."
)
@model_option
@execution_options
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Start with these mutes and solos.")
@click.option(
    "--fallback",
    type=click.Choice(["dry", "silence"]),
    default="dry",
    show_default=True,
    help="What is heard where a stem is missing.",
)
@allowance_option
@reserve_option
@chain_option
@click.option(
    "--callback",
    type=click.Choice(["compiled", "python"]),
    default="compiled",
    show_default=True,
    help="Which audio callback.",
)
@click.option(
    "--osc-host",
    default=DEFAULT_HOST,
    show_default=True,
    help="Address OSC is taken on. OSC knows no password: on any address but this machine's own loopback, "
    "whoever reaches it can turn the faders.",
)
@click.option(
    "--osc-port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="UDP port OSC is taken on.",
)
@click.option("--seconds", type=NumberRange(min=0), help="Stop by itself after this time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event, one per line.")
@guarded
def live(**chosen: Any) -> None:
    """Separate what comes in, mix the stems, and play them, at one declared latency.

    \b
    Examples:
      stembridge live --preset karaoke                 default devices, singer out
      stembridge live --input jack --output jack       through JACK
      stembridge live --preset acapella --fallback silence --in-channels 3,4

    Keys: 1-4 mute a stem, shift+1-4 solo it, 0 mutes the residual, b bypass, q quit.
    OSC on 127.0.0.1:9100 turns the same faders: oscsend localhost 9100 /stem/vocals/gain_db f -6
    """
    signal.signal(signal.SIGTERM, _terminate)
    settings = live_settings(chosen)
    if not is_loopback(settings.osc_host):
        click.echo(f"Warning: {OPEN_TO_ALL.format(settings.osc_host)}", err=True)
    display = Display(as_json=chosen["as_json"])
    if not cache_is_warm():
        display.say("Compiling audio callback and model for this machine (once; up to a minute) ...")
    app = LiveApp(settings, display.event)
    try:
        app.start()
        display.run(app, chosen["seconds"])
        app.require_device()
    except (ValueError, RuntimeError, OSError) as error:
        display.failed(error)
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the fade and the clean-up
        end = summary(app)
        app.stop()
        display.event("end", **end)


def _terminate(_number: int, _frame: object) -> None:
    sys.exit(143)


def live_settings(chosen: dict[str, Any]) -> LiveSettings:
    """The settings that the options stand for. Errors: ValueError."""
    stream = StreamSettings(
        rate_hz=chosen["rate"],
        input_device=chosen["source"],
        output_device=chosen["target"],
        input_channels=chosen["in_channels"],
        output_channels=chosen["out_channels"],
        block_frames=chosen["block"],
    )
    engine = EngineSettings(
        model=chosen["model"],
        preset=chosen["preset"],
        fallback=chosen["fallback"],
        allowance_ms=chosen["allowance_ms"],
        chains=chosen["chain"],
        reserve_frames=chosen["reserve_frames"],
        execution=Execution(**{field.name: chosen[field.name] for field in fields(Execution)}),
    )
    return LiveSettings(engine, stream, chosen["callback"], chosen["osc_host"], chosen["osc_port"])


def summary(app: LiveApp) -> dict[str, Any]:
    """What a run comes to; read before the memory goes."""
    health = app.bridge.session.health
    return {
        "hops": int(health.counters[SEPARATOR, HOPS]),
        "late_hops": health.count(LATE_HOPS),
        "missing_frames": health.count(MISSING_FRAMES),
        "xruns": health.count(XRUNS),
    }


class Display:
    """Events as lines (JSON or words), and meters where there is a terminal to draw them on.

    Threads: `event` from any; the rest from the main thread.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=as_json)
        self._news = ""
        self._is_live = False

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def event(self, event: str, **fields: Any) -> None:
        """Tell what happened."""
        self._is_live = self._is_live or event == "live"
        if self._as_json:
            # One write: several threads share the stream.
            sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
            sys.stdout.flush()
            return
        # A start that fails says it all in its error.
        text = event_text(event, fields) if self._is_live or event == "compromise" else ""
        if text and self._console.is_terminal:
            self._news = text
        elif text:
            self.say(text)

    def failed(self, error: Exception) -> None:
        """Tell machines why the run ends; people read it on stderr."""
        if self._as_json:
            self.event("error", reason=one_line(error))

    def run(self, app: LiveApp, seconds: float | None) -> None:
        """Look after the app until `q`, the time is over, or an interrupt."""
        deadline = time.monotonic() + seconds if seconds is not None else float("inf")
        meters = self._console.is_terminal and not self._as_json
        with (
            keyboard() as key,
            Live(console=self._console, screen=False, auto_refresh=False) if meters else _NoMeters() as drawn,
        ):
            while time.monotonic() < deadline:
                app.check()
                pressed = key(REFRESH_S)
                if pressed == "q":
                    return
                self._press(app, pressed)
                if meters:
                    drawn.update(self._screen(app), refresh=True)

    def _press(self, app: LiveApp, pressed: str) -> None:
        bridge = app.bridge
        message = key_message(pressed, bridge.facts.stem_names, bridge.values) if pressed else None
        if message is not None:
            bridge.children["control"].send(message)

    def _screen(self, app: LiveApp) -> Any:
        bridge = app.bridge
        status = read_status(bridge.session)
        line = (
            f"latency {status['latency_ms']:.1f} ms   load {status['load']:.2f}   "
            f"late hops {status['late_hops']:.0f}   xruns {status['xruns']:.0f}"
        )
        return screen(bridge.facts.stem_names, bridge.session.health.peaks, bridge.values, line, self._news)


class _NoMeters:
    """Stands in for the drawing where there is no terminal."""

    def __enter__(self) -> Any:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def event_text(event: str, fields: dict[str, Any]) -> str:
    """An event in words; '' for those only machines want."""
    if event == "live":
        return (
            f"Live: {fields['latency_frames']} frames = {fields['latency_ms']:.1f} ms from input to output."
        )
    if event == "end":
        return f"Ended: {fields['hops']} hops, {fields['late_hops']} late, {fields['xruns']} xruns."
    if event == "child" and fields["detail"]:
        return f"The {fields['name']} process {fields['detail']}; {fields['state']}."
    if event == "compromise":
        return f"Note: {fields['reason']}."
    if event == "restarted":
        return f"The {fields['name']} process is back."
    if event == "device":
        return f"Sound device {fields['state']}: {fields['detail']}"
    if event in QUIET:
        return ""
    return " ".join(str(value) for value in fields.values())
