"""Command lines of the tools beside `stembridge`: what is wrong with one is said in one line."""

import argparse
import math
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
