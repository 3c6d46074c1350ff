"""What headers of sound files promise, against what is there: decoders fill what is missing with silence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"RF64": "little", b"FORM": "big"}
_UNKNOWN = 0xFFFFFFFF  # a size that stands elsewhere (RF64), or nowhere (what ffmpeg writes into a pipe)


@dataclass(frozen=True)
class _Chunk:
    start: int
    size: int
    head: bytes

    def number(self, begin: int, end: int) -> int:
        return int.from_bytes(self.head[begin:end], "little")


def ends_early(path: Path) -> bool:
    """Whether a WAV (RF64 too) or AIFF is shorter than its header says; False of all other kinds."""
    chunks = _chunks(path)
    samples = chunks.get(b"data") or chunks.get(b"SSND")
    if samples is None or _is_streamed(chunks):
        return False
    large = samples.size == _UNKNOWN and b"ds64" in chunks
    size = chunks[b"ds64"].number(8, 16) if large else samples.size
    return samples.start + size > path.stat().st_size


def frames_held(path: Path, promised: int) -> int:
    """The frames to read: as `promised`, or of a WAV that was written as a stream as many as there are."""
    chunks = _chunks(path)
    if not _is_streamed(chunks) or b"fmt " not in chunks:
        return promised
    frame_bytes = max(1, chunks[b"fmt "].number(12, 14))
    return (path.stat().st_size - chunks[b"data"].start) // frame_bytes


def sum_differs(path: Path, sound: NDArray[np.float32]) -> bool:
    """Whether samples [channels, frames] differ from the MD5 sum of their FLAC's STREAMINFO (RFC 9639, 8.2).

    False where it gives none (as a stream does), and of all other kinds.
    """
    with path.open("rb") as file:
        head = file.read(42)
    if head[:4] != b"fLaC":
        return False
    expected = head[26:42]
    bits = ((head[20] & 1) << 4 | head[21] >> 4) + 1
    if not any(expected) or bits not in (16, 24):
        return False
    full_scale = 2 ** (bits - 1)  # some decoders divide by one less
    return all(_md5(sound, scale, bits // 8) != expected for scale in (full_scale - 1, full_scale))


def _is_streamed(chunks: dict[bytes, _Chunk]) -> bool:
    return b"data" in chunks and chunks[b"data"].size == _UNKNOWN and b"ds64" not in chunks


def _chunks(path: Path) -> dict[bytes, _Chunk]:
    """The chunks of a WAV or AIFF up to its samples, by name; none of any other file."""
    chunks: dict[bytes, _Chunk] = {}
    with path.open("rb") as file:
        order = _BYTE_ORDERS.get(file.read(4))
        file.seek(12)
        while order and not {b"data", b"SSND"} & set(chunks) and len(header := file.read(8)) == 8:
            start, size = file.tell(), int.from_bytes(header[4:], order)
            chunks[header[:4]] = _Chunk(start, size, file.read(16))
            file.seek(start + size + size % 2)
    return chunks


def _md5(sound: NDArray[np.float32], scale: int, width: int) -> bytes:
    whole = np.ascontiguousarray(np.round(sound.T * np.float64(scale)).astype("<i4"))
    raw = whole.view(np.uint8).reshape(-1, 4)[:, :width]
    return hashlib.md5(raw.tobytes(), usedforsecurity=False).digest()
