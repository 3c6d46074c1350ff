"""WindowedSeparator: what sees a whole window, on sliding windows of live sound."""

import gc
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.causal import CausalBSRoformer
from model.causal_stream import sanitised
from model.compromise import Compromise
from model.config import ConfigError
from model.devices import DeviceError, device_errors, out_of_memory, usable
from model.grouped_bands import group_bands
from model.live_hop import LiveHop, checked_streams
from model.precision import Precision, PrecisionError, dtype_of, lower_products, settle_arithmetic
from model.regions import compile_anew, compile_layers, run_compiled
from model.roformer import Roformer
from model.window_framing import WindowFraming


class WindowedSeparator:
    """A network that sees whole windows, published or ours at WHOLE_SIGNAL, on the newest one once a hop.

    Only what the hop needs is evaluated.

    After `separate` was given the window that ends at absolute frame e, `stems_out` holds the stems of
    [e - A - X - H, e - A), the last X frames of which the next contribution is cross-faded over.

    Parameters
    ----------
    network : put on `device` and, its products, into `precision`, in place; ours know float32 alone
    framing : checked against the network
    device : "cpu" or "cuda"
    precision : "auto" is float16 on a GPU, float32 elsewhere
    graphs : on a GPU, capture the work of a hop and replay it
    streams : how many live streams one call advances

    Raises ConfigError, PrecisionError, DeviceError, ValueError for less than one stream. Threads: `warm_up`,
    which changes torch's settings (`settle_arithmetic`), and everything after it on one and the same.
    """

    def __init__(
        self,
        network: Roformer | CausalBSRoformer,
        framing: WindowFraming,
        device: str = "cpu",
        precision: Precision = "auto",
        graphs: bool = True,
        streams: int = 1,
    ) -> None:
        config = network.config
        self.sample_rate_hz, self.stem_names = config.sample_rate_hz, config.stem_names
        self.device, self._graphs, self.streams = usable(device), graphs, checked_streams(streams)
        self._framing = framing.check(config)
        self.hop_frames, self.fade_frames = framing.hop_frames, framing.fade_frames
        self.latency_frames = framing.latency_frames
        with device_errors(self.device):
            self._network = network.eval().to(self.device).requires_grad_(False)
            if isinstance(network, CausalBSRoformer):
                _require_float32(precision)
            else:
                self._lower(network, precision)
            self._allocate()

    def _lower(self, network: Roformer, precision: Precision) -> None:
        lower_products(network, dtype_of(precision, self.device))
        if self.device.type == "cuda":
            group_bands(network)
            compile_layers(network)

    def _allocate(self) -> None:
        config = self._network.config
        self.window_frames = self._framing.window_frames
        contribution = (config.stems, config.channels, self.hop_frames + self.fade_frames)
        self._hop = LiveHop(
            self._process, self.streams, (config.channels, self.window_frames), contribution, self.device
        )

    def _process(self, mixture: Tensor) -> Tensor:
        windows = sanitised(mixture).view(self.streams, -1, self.window_frames)
        return self._network.part(windows, *self._framing.contribution).squeeze(0)

    def warm_up(self) -> None:
        """Plan, capture and freeze; afterwards nothing grows.

        Where the GPU's memory is too small for the window, half of it is taken, and said.
        """
        settle_arithmetic()
        asked = self.window_frames
        with device_errors(self.device):
            while not self._fits():
                self._shorten()
        if self.window_frames != asked:
            said = f"too little memory for windows of {asked} frames: taking {self.window_frames}"
            warnings.warn(said, Compromise, stacklevel=2)
        gc.freeze()

    def _fits(self) -> bool:
        try:
            run_compiled(self._network, self._hop.run_eagerly)
            if self._graphs:
                self._hop.capture()
        except RuntimeError as error:
            if out_of_memory(error):
                return False
            raise
        return True

    def _shorten(self) -> None:
        """Half the window, in whole STFT hops, at the same latency."""
        config, before = self._network.config, self.window_frames
        half = before // config.stft_hop_frames // 2 * config.stft_hop_frames
        try:
            self._framing = replace(self._framing, window_frames=half).check(config)
        except ConfigError:
            raise DeviceError(
                f"{self.device}: too little memory for windows of {before} frames, and none shorter will do;"
                " take a smaller model"
            ) from None
        compile_anew(self._network)
        self._allocate()

    def reset(self, stream: int | None = None) -> None:
        """Nothing is carried: every window brings its own past. Raises ValueError as CausalSeparator."""
        self._hop.check_stream(stream)

    def separate(self, mixture: NDArray[np.float32], stems_out: NDArray[np.float32]) -> None:
        """The stems [stems, channels, hop_frames + fade_frames] of the window [channels, window_frames].

        Several streams come first: [streams, ...]. Non-finite input counts as 0 and input is clamped to +-8.
        Raises ValueError for other shapes, DeviceError where the GPU was lost.
        """
        self._hop(mixture, stems_out)

    def close(self) -> None:
        """Give the captured work back, and what `warm_up` froze."""
        self._hop.release()
        gc.unfreeze()


def _require_float32(precision: Precision) -> None:
    if precision not in ("auto", "fp32"):
        raise PrecisionError(f"this network knows float32 alone, not {precision!r:.40}; take fp32")
