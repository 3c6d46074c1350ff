"""Memory on large pages: what is read anew at every hop should not be looked up page by page."""

from __future__ import annotations

import mmap
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

PAGE_BYTES = 2 << 20
BLOCK_BYTES = 4 * PAGE_BYTES
LINE_BYTES = 64

Arrays = TypeVar("Arrays", bound=tuple[NDArray[Any], ...])


class LargePages:
    """Arrays side by side in blocks that the system may back with large pages, where it has such.

    A block lives as long as any array in it. Threads: one at a time.
    """

    def __init__(self) -> None:
        self._free = np.empty(0, dtype=np.uint8)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """An array of zeros, at the start of a cache line."""
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        if size > self._free.size:
            self._free = _block(max(BLOCK_BYTES, size))
        mine, self._free = self._free[:size], self._free[size + -size % LINE_BYTES :]
        return mine.view(dtype).reshape(shape)

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        mine = self.zeros(array.shape, array.dtype)
        mine[...] = array
        return mine

    def copies(self, arrays: Arrays) -> Arrays:
        """A named tuple of arrays, each copied."""
        return type(arrays)(*map(self.copy, arrays))


def _block(size: int) -> NDArray[np.uint8]:
    """Zeros, from the start of a large page on."""
    memory = mmap.mmap(-1, size + PAGE_BYTES)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    block = np.frombuffer(memory, dtype=np.uint8)
    return block[-block.ctypes.data % PAGE_BYTES :][:size]
