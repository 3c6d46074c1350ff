"""Separators: what the live engine calls once a hop. Plain numbers and NumPy arrays on the outside."""

import gc

import numpy as np
import torch
from numpy.typing import NDArray

from model.causal import CausalBSRoformer
from model.causal_stream import CausalStream
from model.devices import device_errors, usable
from model.graph import capture_hop
from model.live_hop import LiveHop, checked_streams
from model.precision import settle_arithmetic

WARM_UP_HOPS = 8
"""Enough for every lazily made plan, buffer and kernel choice to exist."""


class CausalSeparator:
    """A causal model on carried state, one hop per call.

    After `separate` was given the hop that ends at absolute frame e, `stems_out` holds the stems of
    [e - latency_frames, e - latency_frames + hop_frames).

    Parameters
    ----------
    model : put on `device` in place
    device : "cpu" or "cuda"
    graphs : on a GPU, capture the work of a hop and replay it
    streams : how many live streams one call advances, each with a past of its own

    Raises DeviceError, ValueError for less than one stream. Threads: `warm_up` and everything after it on one
    and the same thread, whose torch settings it changes.
    """

    def __init__(
        self, model: CausalBSRoformer, device: str = "cpu", graphs: bool = True, streams: int = 1
    ) -> None:
        config = model.config
        self.sample_rate_hz = config.sample_rate_hz
        self.window_frames = self.hop_frames = config.hop_frames
        self.latency_frames = config.latency_frames
        self.stem_names = config.stem_names
        self.device, self._graphs, self.streams = usable(device), graphs, checked_streams(streams)
        hop = (config.channels, config.hop_frames)
        with device_errors(self.device):
            self._stream = CausalStream(model.eval().to(self.device), streams=streams)
            self._hop = LiveHop(self._stream.process, streams, hop, (config.stems, *hop), self.device)

    def warm_up(self) -> None:
        """Settle threads and kernels, then freeze what exists: a later garbage collection costs nothing.

        What little garbage there is freezes too: to collect it first would cost a fifth of a second.
        """
        torch.set_num_threads(1)
        settle_arithmetic()
        with device_errors(self.device):
            if compiled := capture_hop(self._stream):
                self._hop.work_on_arrays(compiled.run)
            for _ in range(WARM_UP_HOPS):
                self._hop.run_eagerly()
            if self._graphs:
                self._hop.capture()
            self.reset()
        gc.freeze()

    def reset(self, stream: int | None = None) -> None:
        """Forget the past of one stream, or of all, in place. Raises ValueError for one that is not there."""
        self._hop.check_stream(stream)
        with device_errors(self.device):
            self._stream.reset(stream)
            self._hop.wait()

    def separate(self, mixture: NDArray[np.float32], stems_out: NDArray[np.float32]) -> None:
        """Write the stems [stems, channels, hop_frames] for the next hop [channels, hop_frames].

        Several streams come first: [streams, ...]. Non-finite input counts as 0 and input is clamped to +-8.
        Raises ValueError for other shapes, DeviceError where the GPU was lost.
        """
        self._hop(mixture, stems_out)

    def close(self) -> None:
        """Give the captured work back, and what `warm_up` froze."""
        self._hop.release()
        gc.unfreeze()
