"""How every command ends when something is wrong: one line on stderr and an exit code, never a traceback.

Light on imports, since `--help` passes through here.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

USER_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
ROOMS = ("streaming", "model", "host")


class UserError(ValueError):
    """Something a user can put right: what, why and what to do, in one line."""


class UsageLine(click.ClickException):
    """A command line that click cannot take, in one line instead of its three."""

    exit_code = USER_ERROR

    def __init__(self, error: click.UsageError) -> None:
        command = error.ctx.command_path if error.ctx else "stembridge"
        super().__init__(f"{' '.join(error.format_message().split())} See `{command} --help`.")


def one_line(error: BaseException) -> str:
    """What an error says, in one line that is never empty."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def is_expected(error: Exception) -> bool:
    """Whether an error is one that the system or this project's own classes speak of; others are bugs.

    Our classes are the subclasses of ValueError and RuntimeError that the three packages define.
    """
    if isinstance(error, OSError):
        return not isinstance(error, BrokenPipeError)  # click ends quietly on that one
    return isinstance(error, ValueError | RuntimeError) and type(error).__module__.split(".")[0] in ROOMS


def complain(error: Exception) -> None:
    """Print an expected error as one line on stderr."""
    click.echo(f"Error: {one_line(error)}", err=True)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate the function of a click command (below its options).

    An expected error becomes one line on stderr and exit code 2, Ctrl-C becomes exit code 130. Anything else
    is a bug and keeps its traceback.

    Threads: main.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except (ValueError, RuntimeError, OSError) as error:
            if not is_expected(error):
                raise
            complain(error)
            sys.exit(USER_ERROR)

    return run
