"""The command `stembridge`: every subcommand lives in its own module and is imported when it is asked for."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from typing import Any

import click

from host.errors import INTERRUPTED, UsageLine
from host.launch import dismiss_early, launch_early
from host.models import DEFAULT_MODEL, Execution, separator_options

COMMANDS = {
    "demo": ("host.demo:demo", "Hear and measure a separation of the bundled song in real time."),
    "live": ("host.live:live", "Sound card in, stems mixed, sound card out."),
    "separate": ("host.separate:separate", "Separate audio files into stems."),
    "evaluate": ("host.evaluate:evaluate", "Score a model on songs whose stems are known."),
    "latency": ("host.inspect:latency", "Show where the latency comes from, item by item."),
    "devices": ("host.inspect:devices", "List the sound devices."),
    "doctor": ("host.inspect:doctor", "Say what is missing on this machine and how to get it."),
    "bench": ("host.bench:bench", "Measure this machine, ours beside other programs."),
    "models": ("host.model_commands:models", "Get, import, check and remove published models."),
    "train": ("host.train:train", "Train the built-in model anew, or your own."),
}

LIVE = ("demo", "live")


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:  # shows the help, which is no complaint
        raise
    except click.UsageError as error:
        raise UsageLine(error) from None


def _launch_separator(arguments: list[str]) -> None:
    """Start the separator that a command line will ask for, before anything else is imported."""
    if not arguments or arguments[0] not in LIVE or {"-h", "--help"} & set(arguments):
        return
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    for field in fields(Execution):
        parser.add_argument(f"--{field.name}", default=field.default)
    with contextlib.suppress(ValueError, argparse.ArgumentError):  # the command itself says what is wrong
        chosen = vars(parser.parse_known_args(arguments[1:])[0])
        options = separator_options(chosen.pop("model"), Execution(**chosen))
        launch_early("host.separator_process", json.dumps(options))


class LazyGroup(click.Group):
    """Imports a command when it runs, so that `--help` does not wait for torch.

    A wrong option of any command is one line, as every other error is.
    """

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _usage_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _usage_in_one_line():
                return super().invoke(ctx)
        except KeyboardInterrupt:  # while a command is still being imported
            sys.exit(INTERRUPTED)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.call_on_close(dismiss_early)
        _launch_separator(args)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("stembridge"), prog_name="stembridge")
def main() -> None:
    """A real-time bridge between live audio and its stems.

    \b
    Start here:
      stembridge demo                     no sound card needed
      stembridge doctor                   what this machine lacks
      stembridge live --preset karaoke    the singer out of a live feed
    """
