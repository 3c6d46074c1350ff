"""Timelines into memory: a recorder is one more reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streaming.separator import Audio
from streaming.timeline import Timeline


class Recorder:
    """Keeps the frames [0, frames) of some timelines.

    Attributes
    ----------
    audio : float32 [timelines, channels, frames]; 0 where nothing came
    present : bool [timelines, frames]; which frames came

    Threads: one calls `poll`, at least once within the timelines' capacity.
    """

    def __init__(self, timelines: Sequence[Timeline], frames: int) -> None:
        self._timelines = list(timelines)
        self._next = [0] * len(self._timelines)
        self.audio: Audio = np.zeros((len(self._timelines), self._timelines[0].channels, frames), np.float32)
        self.present: NDArray[np.bool_] = np.zeros((len(self._timelines), frames), np.bool_)

    def poll(self) -> None:
        """Take over what was written since the last call."""
        for index, timeline in enumerate(self._timelines):
            self._take(index, timeline)

    def _take(self, index: int, timeline: Timeline) -> None:
        start, end = self._next[index], min(timeline.end, self.present.shape[1])
        if end <= start:
            return
        first, last = timeline.read(start, self.audio[index][:, start:end])
        self.present[index, start + first : start + last] = True
        self._next[index] = start + last if last else start
