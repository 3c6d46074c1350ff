"""WindowedSeparator: any published checkpoint on sliding windows of live sound."""

import gc
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.causal_stream import sanitised
from model.config import ConfigError
from model.precision import Precision, dtype_of, lower_products
from model.replay import replayed
from model.roformer import Roformer
from model.window_framing import WindowFraming


class WindowedSeparator:
    """A published model on the newest window, once a hop; only what the hop needs is evaluated.

    After `separate` was given the window that ends at absolute frame e, `stems_out` holds the stems of
    [e - A - X - H, e - A), the last X frames of which the next contribution is cross-faded over.

    Parameters
    ----------
    network : put on `device` and, its products, into `precision`, in place
    framing : checked against the network
    device : "cpu" or "cuda"
    precision : "auto" is float16 on a GPU, float32 elsewhere
    graphs : on a GPU, capture the work of a hop and replay it

    Raises ConfigError, PrecisionError. Threads: `warm_up` and everything after it on one and the same.
    """

    def __init__(
        self,
        network: Roformer,
        framing: WindowFraming,
        device: str = "cpu",
        precision: Precision = "auto",
        graphs: bool = True,
    ) -> None:
        config = network.config
        self.sample_rate_hz, self.stem_names = config.sample_rate_hz, config.stem_names
        self.device, self._graphs = torch.device(device), graphs
        self._framing = framing.check(config)
        self.hop_frames, self.fade_frames = framing.hop_frames, framing.fade_frames
        self.latency_frames = framing.latency_frames
        self._network = network.eval().to(self.device).requires_grad_(False)
        lower_products(network, dtype_of(precision, self.device))
        self._allocate()

    def _allocate(self) -> None:
        """Buffers on the host, pinned where a GPU reads and writes them itself."""
        config, pinned = self._network.config, self.device.type == "cuda"
        self.window_frames = self._framing.window_frames
        self._mixture = torch.zeros(config.channels, self.window_frames, pin_memory=pinned)
        contribution = (config.stems, config.channels, self.hop_frames + self.fade_frames)
        self._stems = torch.zeros(contribution, pin_memory=pinned)
        self._run: Callable[[], None] = self._eagerly

    def _work(self) -> None:
        """From the host's mixture to the host's stems."""
        window = sanitised(self._mixture.to(self.device, non_blocking=True))
        stems = self._network.part(window.unsqueeze(0), *self._framing.contribution)[0]
        self._stems.copy_(stems, non_blocking=True)

    def _eagerly(self) -> None:
        self._work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def warm_up(self) -> None:
        """Plan, capture and freeze; afterwards nothing grows.

        Where the GPU's memory is too small for the window, half of it is taken, and said.
        """
        torch.set_flush_denormal(True)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        while not self._fits():
            self._shorten()
        gc.freeze()

    @torch.inference_mode()
    def _fits(self) -> bool:
        try:
            self._eagerly()
            if self._graphs and self.device.type == "cuda":
                self._run = replayed(self._work, self.device)
        except torch.OutOfMemoryError:
            return False
        return True

    def _shorten(self) -> None:
        """Half the window, in whole STFT hops, at the same latency."""
        config, before = self._network.config, self.window_frames
        half = before // config.stft_hop_frames // 2 * config.stft_hop_frames
        try:
            self._framing = replace(self._framing, window_frames=half).check(config)
        except ConfigError:
            raise MemoryError(
                f"{self.device}: too little memory for windows of {before} frames, and none shorter will do;"
                " take a smaller model"
            ) from None
        warnings.warn(f"too little memory for windows of {before} frames: taking {half}", stacklevel=3)
        self._allocate()

    def reset(self) -> None:
        """Nothing is carried: every window brings its own past."""

    @torch.inference_mode()
    def separate(self, mixture: NDArray[np.float32], stems_out: NDArray[np.float32]) -> None:
        """The stems [stems, channels, hop_frames + fade_frames] of the window [channels, window_frames].

        Non-finite input counts as 0 and input is clamped to +-8. Raises ValueError for other shapes.
        """
        _require_shape("mixture", mixture, self._mixture)
        _require_shape("stems_out", stems_out, self._stems)
        self._mixture.numpy()[...] = mixture
        self._run()
        stems_out[...] = self._stems.numpy()

    def close(self) -> None:
        """Give the captured work back, and what `warm_up` froze."""
        self._run = self._eagerly
        gc.unfreeze()


def _require_shape(name: str, array: NDArray[np.float32], like: Tensor) -> None:
    if array.shape != like.shape:
        raise ValueError(
            f"{name} of shape {array.shape}: this separator was made for {tuple(like.shape)};"
            " make another one for other windows"
        )
