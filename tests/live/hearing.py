"""What a recording tells: which gains lie between what was played and what was heard."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.live.jack import Audio

PIECE = 441


def gains_heard(played: Audio, heard: Audio, gains: Iterable[float], tolerance: float = 0.0) -> list[float]:
    """Those of `gains` at which `played` is heard, in their order; pieces on the way between are left out.

    Both are [channels, frames], aligned. Silent pieces tell nothing.
    """
    gains, found = sorted(set(gains)), []
    for at in range(0, played.shape[1] - PIECE + 1, PIECE):
        here = slice(at, at + PIECE)
        if not played[:, here].any():
            continue
        errors = {gain: np.abs(heard[:, here] - np.float32(gain) * played[:, here]).max() for gain in gains}
        found += [gain for gain, error in errors.items() if error <= tolerance and found[-1:] != [gain]]
    return found


def largest_step(audio: Audio) -> float:
    """The largest difference between neighbouring frames."""
    return float(np.abs(np.diff(audio)).max())
