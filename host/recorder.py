"""Timelines into memory: a recorder is one more reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.separator import Audio
from streaming.timeline import Timeline


@dataclass(frozen=True)
class Recording:
    """The frames [0, frames) of some timelines.

    `audio` is [timelines, channels, frames], 0 where nothing came; `present` [timelines, frames] says
    what came.
    """

    audio: Audio
    present: NDArray[np.bool_]


class Recorder:
    """Records the first `frames` frames of some timelines of equal channels.

    Threads: one calls `poll`, at least once within the timelines' capacity.
    """

    def __init__(self, timelines: Sequence[Timeline], frames: int) -> None:
        count, channels = len(timelines), timelines[0].channels
        self.recording = Recording(
            np.zeros((count, channels, frames), np.float32), np.zeros((count, frames), np.bool_)
        )
        self._timelines, self._frames = list(timelines), frames
        self._next = [0] * count

    def poll(self) -> None:
        """Take over what was written since the last call."""
        for index, timeline in enumerate(self._timelines):
            self._take(index, timeline)

    def _take(self, index: int, timeline: Timeline) -> None:
        start, end = self._next[index], min(timeline.end, self._frames)
        if end <= start:
            return
        first, last = timeline.read(start, self.recording.audio[index][:, start:end])
        self.recording.present[index, start + first : start + last] = True
        self._next[index] = start + last if last else start
