"""Command lines of the tools beside `stembridge`: what is wrong with one is said in one line."""

import argparse
from typing import NoReturn

SHORTEST_S, LONGEST_S = 1.0, 3600.0


class ArgumentsError(ValueError):
    """A command line that cannot be taken: one line with what, why and what to do."""


class OneLineParser(argparse.ArgumentParser):
    """Raises ArgumentsError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise ArgumentsError(f"{message}; see --help")


def count(text: str) -> int:
    """A type of arguments: a whole number from 1."""
    if text.isascii() and text.isdecimal() and text.strip("0"):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r:.40}")


def seconds(text: str) -> float:
    """A type of arguments: the length of a song, from SHORTEST_S to LONGEST_S."""
    try:
        length = float(text)
    except ValueError:
        length = 0.0
    if SHORTEST_S <= length <= LONGEST_S:
        return length
    raise argparse.ArgumentTypeError(
        f"must be from {SHORTEST_S:g} to {LONGEST_S:g} seconds, not {text!r:.40}"
    )
