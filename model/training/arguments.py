"""Command lines of the tools beside `stembridge`: what is wrong is said in one line, what happens too."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn

SHORTEST_S, LONGEST_S = 1.0, 3600.0
MOST_SEED = 2**32 - 1
"""Up to here no two pairs of a seed and an item's number are the same to NumPy's generators."""
USER_ERROR, INTERRUPTED = 2, 130


class ArgumentsError(ValueError):
    """A command line that cannot be taken: one line with what, why and what to do."""


class OneLineParser(argparse.ArgumentParser):
    """Raises ArgumentsError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ArgumentsError(f"{message}; see --help")


def run_tool(command: Callable[[], None], expected: tuple[type[Exception], ...]) -> None:
    """Run what a tool does. An error that a user can put right becomes one line and exit code 2, Ctrl-C exit
    code 130; all others are bugs and keep their traceback. Threads: main."""
    known: tuple[type[Exception], ...] = (ArgumentsError, OSError, *expected)
    try:
        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except known as error:
        tell(f"Error: {error}")
        sys.exit(USER_ERROR)


def tell(line: str) -> None:
    """What is happening, on stderr, in one line. Threads: any."""
    print(" ".join(line.splitlines()), file=sys.stderr, flush=True)


def count(text: str) -> int:
    """A type of arguments: a whole number from 1."""
    if text.isascii() and text.isdecimal() and text.strip("0"):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r:.40}")


def seed(text: str) -> int:
    """A type of arguments: a whole number from 0 to MOST_SEED."""
    if text.isascii() and text.isdecimal() and int(text) <= MOST_SEED:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {MOST_SEED}, not {text!r:.40}")


def seconds(text: str) -> float:
    """A type of arguments: the length of a song, from SHORTEST_S to LONGEST_S."""
    return within(text, SHORTEST_S, LONGEST_S, " seconds")


def within(text: str, least: float, most: float, unit: str = "") -> float:
    """A number from `least` to `most`. Raises ArgumentTypeError for any other text."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan  # which no range holds
    if least <= number <= most:
        return number
    raise argparse.ArgumentTypeError(f"must be from {least:g} to {most:g}{unit}, not {text!r:.40}")
