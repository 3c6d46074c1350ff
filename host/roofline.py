"""What this machine can do at best: a matrix product and a copy, measured, not looked up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

PRODUCT_SIZE = {"cpu": 1536, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}
REPEATS = {"cpu": 5, "cuda": 30}


@dataclass(frozen=True)
class Peak:
    """The fastest of several matrix products and copies; a copy's bytes count once read, once written."""

    flops_per_s: float
    bytes_per_s: float

    def least_s(self, flops: float, read_bytes: float) -> float:
        """No run of this many operations that reads this many bytes once takes less time."""
        return max(flops / self.flops_per_s, read_bytes / self.bytes_per_s)


def peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Measure with the threads that torch has now. TF32 stays off. Threads: one at a time."""
    size, rest = PRODUCT_SIZE[device.type], COPY_BYTES[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out, source = torch.empty_like(a), torch.zeros(rest // 4, device=device)
    target = torch.empty_like(source)
    product = least_seconds(lambda: torch.mm(a, b, out=out), device)
    copy = least_seconds(lambda: target.copy_(source), device)
    return Peak(2 * size**3 / product, 2 * rest / copy)


def least_seconds(run: Callable[[], object], device: torch.device) -> float:
    """The fastest of REPEATS, one more to warm up; by events on a GPU."""
    clock = _by_events if device.type == "cuda" else _by_clock
    run()
    return min(clock(run) for _ in range(REPEATS[device.type]))


def _by_clock(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _by_events(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def weight_bytes(network: nn.Module) -> int:
    """Bytes of all parameters: what a hop reads at least once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def beside_roofline(best: Peak, flops: float, read_bytes: float, p50_ms: float) -> dict[str, float]:
    """How near work that took so long came to the least time for it."""
    least_ms = 1e3 * best.least_s(flops, read_bytes)
    return {
        "tflop_per_s": best.flops_per_s / 1e12,
        "gb_per_s": best.bytes_per_s / 1e9,
        "roofline_ms": least_ms,
        "times_roofline": p50_ms / least_ms,
    }
