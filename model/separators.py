"""Separators: what the live engine calls once a hop. Plain numbers and NumPy arrays on the outside."""

import gc
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.causal import CausalBSRoformer
from model.causal_stream import CausalStream
from model.graph import capture_hop

WARM_UP_HOPS = 8
"""Enough for every lazily made plan, buffer and kernel choice to exist."""


class CausalSeparator:
    """A causal model on carried state, one hop per call.

    After `separate` was given the hop that ends at absolute frame e, `stems_out` holds the stems of
    [e - latency_frames, e - latency_frames + hop_frames).
    Threads: `warm_up` and everything after it on one and the same thread, whose torch settings it changes.
    """

    def __init__(self, model: CausalBSRoformer) -> None:
        config = model.config
        self.sample_rate_hz = config.sample_rate_hz
        self.window_frames = self.hop_frames = config.hop_frames
        self.latency_frames = config.latency_frames
        self.stem_names = config.stem_names
        self._stream = CausalStream(model.eval())
        self._process: Callable[[Tensor], Tensor] = self._stream.process
        self._mixture = torch.zeros(config.channels, config.hop_frames)

    def warm_up(self) -> None:
        """Settle threads and kernels, then freeze what exists: a later garbage collection costs nothing.

        What little garbage there is freezes too: to collect it first would cost a fifth of a second.
        """
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        self._process = capture_hop(self._stream)
        stems = np.zeros((len(self.stem_names), *self._mixture.shape), dtype=np.float32)
        for _ in range(WARM_UP_HOPS):
            self.separate(self._mixture.numpy(), stems)
        self.reset()
        gc.freeze()

    def reset(self) -> None:
        """Forget the past, in place."""
        self._stream.reset()

    def separate(self, mixture: NDArray[np.float32], stems_out: NDArray[np.float32]) -> None:
        """Write the stems [stems, channels, hop_frames] for the next hop [channels, hop_frames].

        Non-finite input counts as 0 and input is clamped to +-8. Raises ValueError for other shapes.
        """
        with torch.inference_mode():
            self._mixture.numpy()[...] = mixture
            stems_out[...] = self._process(self._mixture).numpy()

    def close(self) -> None:
        """Release what `warm_up` froze."""
        gc.unfreeze()
