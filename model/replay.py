"""Work on fixed tensors, captured once in a CUDA graph and replayed without Python or a host sync inside."""

from collections.abc import Callable
from typing import Any

import torch

WARM_UP_RUNS = 3
"""Enough for FFT plans, kernel choices and workspaces to exist before the capture."""


def replayed(work: Callable[[], None], device: torch.device, cuda: Any = torch.cuda) -> Callable[[], None]:
    """`work`, captured; calling the result runs it and waits until its results are there.

    `work` reads and writes the same tensors every time (host ones pinned) and asks nothing of the host.
    `cuda` is what does the capturing. Threads: capture and replay on the same one.
    """
    stream = cuda.Stream(device)
    with cuda.stream(stream):
        for _ in range(WARM_UP_RUNS):
            work()
        stream.synchronize()
        graph = cuda.CUDAGraph()
        # Inside of the other block, since a capture that fails leaves its stream the current one.
        with cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()

    @torch.inference_mode()  # as in the capture: some releases advance tensors made there
    def replay() -> None:
        with cuda.stream(stream):
            graph.replay()
        stream.synchronize()

    replay()  # the first one uploads the graph
    return replay
