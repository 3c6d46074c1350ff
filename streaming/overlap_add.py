"""Cross-faded synthesis: contributions that overlap go in, finished frames come out."""

import numpy as np
import numpy.typing as npt

from streaming.fades import linear_ramp

Audio = npt.NDArray[np.float32]


class OverlapAddError(ValueError):
    """A fade that the hop cannot hold."""


class OverlapAdd:
    """Cross-fades the end of each contribution into the start of the next.

    Parameters
    ----------
    stems, channels : of every contribution
    hop_frames : finished frames per contribution
    fade_frames : frames X that a contribution reaches beyond its hop, 0 to hop_frames; 0 copies

    Threads: one at a time. After construction nothing is allocated.
    """

    def __init__(self, stems: int, channels: int, hop_frames: int, fade_frames: int) -> None:
        if not 0 <= fade_frames <= hop_frames:
            raise OverlapAddError(
                f"fade of {fade_frames} frames: it must be 0 to the hop of {hop_frames}; shorten the fade"
            )
        self._hop = hop_frames
        self._fade = fade_frames
        self._ramp = linear_ramp(fade_frames)
        self._tail = np.zeros((stems, channels, fade_frames), np.float32)
        self._step = np.zeros_like(self._tail)
        self._first = True

    def reset(self) -> None:
        """Forget the last contribution; the next one starts without a fade."""
        self._first = True

    def add(self, contribution: Audio, out: Audio) -> None:
        """Finish a hop: contribution [stems, channels, hop + fade] to out [stems, channels, hop]."""
        out[:] = contribution[..., : self._hop]
        if not self._first:
            self._fade_over(out[..., : self._fade])
        self._tail[:] = contribution[..., self._hop :]
        self._first = False

    def _fade_over(self, newer: Audio) -> None:
        # tail + ramp * (newer - tail)
        np.subtract(newer, self._tail, out=self._step)
        np.multiply(self._step, self._ramp, out=self._step)
        np.add(self._tail, self._step, out=newer)
