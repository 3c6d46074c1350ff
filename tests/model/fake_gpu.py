"""What stands in for a GPU: the CPU does the work, and what a GPU would be asked for is written down."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from model.replay import replayed

CUDA = torch.device("cuda")


class FakeCuda:
    """Remembers what a capture asks for, and what of it in its stream; replaying does the work again."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.graphs: weakref.WeakSet[FakeGraph] = weakref.WeakSet()
        self.work: Callable[[], None] = lambda: None
        self.in_stream = False
        self.Stream = lambda device: self
        self.CUDAGraph = lambda: FakeGraph(self)

    def note(self, event: str) -> None:
        self.events.append(f"in stream: {event}" if self.in_stream else event)

    def replayed(self, work: Callable[[], None], device: torch.device) -> Callable[[], None]:
        """As `model.replay.replayed`, here."""
        self.work = work
        return replayed(work, device, self)

    @contextmanager
    def stream(self, _stream: object) -> Iterator[None]:
        before, self.in_stream = self.in_stream, True
        try:
            yield
        finally:
            self.in_stream = before

    @contextmanager
    def graph(self, _graph: object, **_how: object) -> Iterator[None]:
        """To end a capture that failed is an error of its own, which says nothing of the first one."""
        self.note("capture")
        try:
            yield
        except Exception:
            raise RuntimeError(
                "CUDA error: operation failed due to a previous error during capture"
            ) from None

    def synchronize(self) -> None:
        self.events.append("wait")


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        cuda.graphs.add(self)

    def replay(self) -> None:
        self._cuda.note("replay")
        self._cuda.work()


class Transfers(TorchFunctionMode):
    """Pinned buffers are plain ones, and what is put on the GPU stays where it is; copies from and to pinned
    buffers are events."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()
        self._cuda = cuda
        self._pinned: set[int] = set()

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        how = dict(kwargs or {})
        if function is torch.zeros and how.pop("pin_memory", False):
            buffer = torch.zeros(*args, **how)
            self._pinned.add(buffer.data_ptr())
            return buffer
        if function is torch.Tensor.to and args[1:2] == (CUDA,):
            self._note("upload", args[0], how)
            return args[0]
        if function is torch.Tensor.copy_:
            self._note("download", args[0], how)
        return function(*args, **how)

    def _note(self, what: str, host: torch.Tensor, how: dict[str, Any]) -> None:
        if host.data_ptr() in self._pinned:
            self._cuda.note(what if how.get("non_blocking") else f"blocking {what}")
