"""A window out of a timeline."""

from enum import Enum

import numpy as np
import numpy.typing as npt

from streaming.timeline import Timeline


class WindowState(Enum):
    """What `read_window` found."""

    READY = "ready"
    NOT_YET = "not yet"
    LOST = "lost"


def read_window(timeline: Timeline, end_frame: int, out: npt.NDArray[np.float32]) -> WindowState:
    """Copy the window [end_frame - window, end_frame) into out [channels, window].

    READY: `out` is whole; frames before the run's start count as silence.
    NOT_YET: the writer has not come to `end_frame`; ask again later.
    LOST: frames of the window are overwritten or belong to another run; join again at the current frames.
    After LOST, `out` may hold anything.

    Threads: any reader. Never waits.
    """
    epoch, start = timeline.epoch, timeline.start
    if timeline.end < end_frame:
        return WindowState.NOT_YET
    first_frame = end_frame - out.shape[1]
    valid_from, valid_to = timeline.read(first_frame, out)
    # The start belongs to what was read only if no run began in between.
    if timeline.epoch != epoch or valid_to < out.shape[1]:
        return WindowState.LOST
    if first_frame + valid_from > max(first_frame, start):
        return WindowState.LOST
    out[:, :valid_from] = 0.0
    return WindowState.READY
