"""The work of one hop, from the host's memory to the host's memory, on buffers that never move."""

from collections.abc import Callable
from functools import partial
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.devices import DeviceError, device_errors, first_line, origin, out_of_memory
from model.replay import replayed


class LiveHop:
    """`process` on fixed buffers: called once a hop, with arrays of the caller's.

    Arrays are [streams, *shape]; a lone stream has no axis of its own, here and in `process`. On a GPU the
    buffers are pinned, so that it reads and writes them itself.

    Parameters
    ----------
    process : float32 mixture in, stems out, both on `device`
    streams : how many live streams advance together
    mixture_shape, stems_shape : of one stream
    device : where `process` works

    Threads: `capture` and everything after it on one and the same.
    """

    def __init__(
        self,
        process: Callable[[Tensor], Tensor],
        streams: int,
        mixture_shape: tuple[int, ...],
        stems_shape: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self._streams = streams
        self.process, self.device = process, device
        self._mixture, self._stems = (
            torch.zeros(streams, *shape, pin_memory=device.type == "cuda").squeeze(0)
            for shape in (mixture_shape, stems_shape)
        )
        self._arrays = self._mixture.numpy(), self._stems.numpy()
        self._work: Callable[[], None] = self._work_on_tensors
        self._run: Callable[[], None] = self.run_eagerly

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def _work_on_tensors(self) -> None:
        mixture = self._mixture.to(self.device, non_blocking=True)
        self._stems.copy_(self.process(mixture), non_blocking=True)

    @torch.inference_mode()
    def run_eagerly(self) -> None:
        """Work on what is in the buffers, uncaptured."""
        self._work()
        self.wait()

    def check_stream(self, stream: int | None) -> None:
        """Raises ValueError where there is no such stream; None means all."""
        if stream is not None and (not _whole(stream) or not 0 <= stream < self._streams):
            raise ValueError(f"stream {stream!r:.40}: this separator has streams 0 to {self._streams - 1}")

    def work_on_arrays(self, run: Callable[[NDArray[np.float32], NDArray[np.float32]], None]) -> None:
        """From now on `run`, on a CPU, writes the stems of a mixture in place of `process`."""
        self._work = self._run = partial(run, *self._arrays)

    def wait(self) -> None:
        """Until a GPU has done all it was asked for: work outside of a graph runs beside it."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    @torch.inference_mode()
    def capture(self) -> None:
        """On a GPU, capture the work; from now on it is replayed. `run_eagerly` comes first.

        Raises DeviceError where the work cannot be captured, torch's own where memory is too small for it.
        """
        if not self.on_gpu:
            return
        try:
            self._run = replayed(self._work, self.device)
            return
        except RuntimeError as error:
            cause = origin(error)
            no_memory, said = out_of_memory(cause), first_line(cause)
            del cause  # which would keep what the failed capture holds of a GPU
        if no_memory:
            raise torch.OutOfMemoryError(said)
        raise DeviceError(f"{self.device}: the work of a hop cannot be captured ({said}); take --graphs off")

    def release(self) -> None:
        """Give the captured work back."""
        self._run = self.run_eagerly

    def __call__(self, mixture: NDArray[np.float32], stems_out: NDArray[np.float32]) -> None:
        """Raises ValueError for other shapes or types, DeviceError where the GPU was lost."""
        _require_like("mixture", mixture, self._mixture)
        _require_like("stems_out", stems_out, self._stems)
        own_mixture, own_stems = self._arrays
        own_mixture[...] = mixture
        with device_errors(self.device):
            self._run()
        stems_out[...] = own_stems


def checked_streams(streams: int) -> int:
    """How many streams, if that can be. Raises ValueError."""
    if not _whole(streams) or streams < 1:
        raise ValueError(f"{streams!r:.40} streams: take one or more")
    return streams


def _whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _require_like(name: str, array: NDArray[np.float32], like: Tensor) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        raise ValueError(
            f"{name}: audio is a NumPy array of float32, not {getattr(array, 'dtype', array)!s:.40}"
        )
    if array.shape != like.shape:
        raise ValueError(
            f"{name} of shape {array.shape}: this separator was made for {tuple(like.shape)};"
            " make another one for other windows or streams"
        )
