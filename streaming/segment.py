"""One segment of shared memory, laid out by name, which describes itself."""

import contextlib
import json
import math
import mmap
import os
import secrets
import struct
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT_BYTES = 64
MAGIC = b"stembrdg"
PREFIX = struct.Struct("<8sQ")  # magic, bytes of the JSON table of contents
MADV_POPULATE_WRITE = 23  # Linux 5.14; Python does not name it

_attaching = threading.Lock()


class SegmentError(RuntimeError):
    """A segment that is not there or not one of ours."""


@dataclass(frozen=True)
class Field:
    """A named array: its shape and NumPy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _bytes(memory: SharedMemory) -> memoryview:
    assert memory.buf is not None  # only after close()
    return memory.buf


def _make_resident(memory: SharedMemory) -> None:
    """Map every page now: the callback that first touches one would wait for the kernel to find it."""
    try:
        memory._mmap.madvise(MADV_POPULATE_WRITE)  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):  # an older kernel, another system
        np.frombuffer(_bytes(memory), np.uint8)[:: mmap.PAGESIZE].sum()


def _attach(name: str) -> SharedMemory:
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    # Before 3.13 attaching registers the segment with the resource tracker, which unlinks it when this
    # process ends, under the feet of its owner. Unregistering afterwards would also strike out the owner
    # where both share a tracker.
    with _attaching:
        register = resource_tracker.register
        resource_tracker.register = lambda name, rtype: None
        try:
            return SharedMemory(name)
        finally:
            resource_tracker.register = register


class Segment:
    """Named arrays in one block of shared memory; make it with `create` or `attach`.

    Attributes
    ----------
    name : what `attach` takes
    info : JSON values given to `create`, a copy in each process

    Threads: any; what the arrays hold is up to their users.
    """

    def __init__(self, memory: SharedMemory, owner: bool) -> None:
        buffer = _bytes(memory)
        magic, contents_bytes = PREFIX.unpack_from(buffer)
        if magic != MAGIC:
            memory.close()
            raise SegmentError(f"shared memory '{memory.name}' was not made by stembridge: check the name")
        _make_resident(memory)
        self._memory = memory
        self._owner = owner
        self.name = memory.name
        contents = json.loads(bytes(buffer[PREFIX.size : PREFIX.size + contents_bytes]))
        self.info: dict[str, Any] = contents["info"]
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        offset = _aligned(PREFIX.size + contents_bytes)
        for entry in contents["fields"]:
            field = Field(entry["name"], tuple(entry["shape"]), entry["dtype"])
            self._arrays[field.name] = np.ndarray(field.shape, field.dtype, buffer, offset)
            offset += _aligned(field.size_bytes)
        # The arrays own the mapping now: it goes with the last view. SharedMemory would refuse to close
        # under views, and complain of them again at exit; it keeps only the name.
        memory._buf = memory._mmap = None  # type: ignore[attr-defined]
        memory.close()

    @classmethod
    def create(cls, fields: Sequence[Field], info: Mapping[str, Any]) -> "Segment":
        """Make a segment of zeroed arrays, each on a multiple of 64 bytes. The caller unlinks it."""
        contents = json.dumps({"fields": [asdict(field) for field in fields], "info": dict(info)}).encode()
        size = _aligned(PREFIX.size + len(contents)) + sum(_aligned(field.size_bytes) for field in fields)
        # The random part keeps clear of what a killed process with our number may have left behind.
        name = f"stembridge-{os.getpid()}-{secrets.token_hex(4)}"
        memory = SharedMemory(name, create=True, size=size)
        struct.pack_into(
            f"{PREFIX.format}{len(contents)}s", _bytes(memory), 0, MAGIC, len(contents), contents
        )
        return cls(memory, owner=True)

    @classmethod
    def attach(cls, name: str) -> "Segment":
        """The same arrays in another process; they outlive this one. Raises SegmentError."""
        try:
            memory = _attach(name)
        except (FileNotFoundError, ValueError):
            raise SegmentError(f"no shared memory '{name}': the process that made it has ended") from None
        return cls(memory, owner=False)

    def array(self, field_name: str) -> npt.NDArray[Any]:
        """View of one field, valid as long as anybody holds it."""
        return self._arrays[field_name]

    def close(self) -> None:
        """Let go of the arrays; the memory is unmapped with the last view of it. May be repeated."""
        self._arrays.clear()

    def unlink(self) -> None:
        """Remove the name; who is attached keeps the memory. Only the creator; may be repeated."""
        if not self._owner:
            raise SegmentError(
                f"shared memory '{self.name}' belongs to another process: only its creator unlinks it"
            )
        with contextlib.suppress(FileNotFoundError):
            self._memory.unlink()
