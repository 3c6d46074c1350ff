"""Reads audio files for training: decoded whole, checked, and kept as int16 arrays in a cache."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from model.filters import RATE_HZ
from model.training.synth import Audio, frames_of

Pcm = NDArray[np.int16]
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".m4a"}
_QUIETEST_PEAK = 10.0 ** (-45.0 / 20.0)
_LOUDEST_PEAK = 2.0


class TrainingDataError(ValueError):
    """Training data that cannot be used: one line with what, why and what to do."""


def to_pcm(sound: Audio) -> Pcm:
    """Float audio to int16, clipped at full scale."""
    return np.asarray(np.clip(np.round(sound * 32768.0), -32768, 32767), dtype=np.int16)


def to_float(pcm: Pcm) -> Audio:
    """Int16 audio to float32."""
    return pcm.astype(np.float32) / np.float32(32768.0)


def rate_of(path: Path) -> int:
    """The sample rate that a file's header names, in Hz. Raises TrainingDataError where it has none."""
    from pedalboard.io import AudioFile

    try:
        with AudioFile(str(path)) as file:
            return int(file.samplerate)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path) from error


def decode(path: Path) -> Audio:
    """A whole audio file as [2, frames] at 44.1 kHz; mono lies on both channels.

    Raises TrainingDataError where it cannot be read, ends early or has more than two channels.
    """
    import soxr
    from pedalboard.io import AudioFile

    try:
        with AudioFile(str(path)) as file:
            sound = np.asarray(file.read(file.frames or 1), dtype=np.float32)
            rate_hz = file.samplerate
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path) from error
    if len(sound) > 2:
        raise TrainingDataError(f"{path}: has {len(sound)} channels; export it as mono or stereo")
    if _ends_early(path, sound):
        raise TrainingDataError(f"{path}: ends early or is damaged; copy or download it again")
    if rate_hz != RATE_HZ:
        sound = np.ascontiguousarray(soxr.resample(sound.T, rate_hz, RATE_HZ).T)
    return sound if len(sound) == 2 else np.repeat(sound, 2, axis=0)


def _unreadable(path: Path) -> TrainingDataError:
    return TrainingDataError(f"{path}: cannot be read as audio; remove or replace it")


def _ends_early(path: Path, sound: Audio) -> bool:
    """Whether a WAV or FLAC is cut or damaged: decoders fill what is missing with silence."""
    with path.open("rb") as file:
        kind = file.read(4)
        if kind == b"RIFF":
            return _wav_end(file) > path.stat().st_size
        if kind == b"fLaC":
            file.seek(8)
            return not _flac_sum_fits(file.read(34), sound)
    return False


def _wav_end(file: BinaryIO) -> int:
    """Where the samples of a WAV end by its header; 0 where the header does not say (streamed files)."""
    file.seek(12)
    while len(header := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            return file.tell() + int(size) if size < 0xFFFFFFFF else 0
        file.seek(size + size % 2, os.SEEK_CUR)
    return 0


def _flac_sum_fits(stream_info: bytes, sound: Audio) -> bool:
    """Whether the samples have the MD5 sum of STREAMINFO (RFC 9639, 8.2); true where it gives none."""
    expected = stream_info[18:34]
    bits = ((stream_info[12] & 1) << 4 | stream_info[13] >> 4) + 1
    if not any(expected) or bits not in (16, 24):
        return True
    full_scale = 2 ** (bits - 1)  # some decoders divide by one less
    return any(_md5(sound, scale, bits // 8) == expected for scale in (full_scale - 1, full_scale))


def _md5(sound: Audio, scale: int, width: int) -> bytes:
    whole = np.ascontiguousarray(np.round(sound.T * np.float64(scale)).astype("<i4"))
    raw = whole.view(np.uint8).reshape(-1, 4)[:, :width]
    return hashlib.md5(raw.tobytes(), usedforsecurity=False).digest()


def screened(path: Path, sound: Audio, shortest_s: float) -> Audio:
    """The sound, if it is of use. Raises TrainingDataError for non-finite, short, silent or too loud audio.

    Lossy decoders overshoot full scale a little, and those peaks are clipped; more would distort a stem.
    """
    if not np.isfinite(sound).all():
        raise TrainingDataError(f"{path}: holds NaN or infinite samples; export it again")
    if sound.shape[-1] < frames_of(shortest_s):
        raise TrainingDataError(f"{path}: shorter than {shortest_s:g} s; not used")
    if np.abs(sound).max(initial=0.0) < _QUIETEST_PEAK:
        raise TrainingDataError(f"{path}: silent (peak below -45 dBFS); not used")
    if np.abs(sound).max() > _LOUDEST_PEAK:
        raise TrainingDataError(f"{path}: peaks more than 6 dB above full scale; export it at a lower level")
    return sound


def trimmed(sound: Audio) -> Audio:
    """Without the silence (below -50 dBFS) at both ends."""
    loud = np.flatnonzero(np.abs(sound).max(axis=0) > 10.0 ** (-50.0 / 20.0))
    return sound[:, loud[0] : loud[-1] + 1] if len(loud) else sound[:, :0]


def cached(cache: Path, key: str, make: Callable[[], Audio]) -> Pcm:
    """The array made by `make`, as int16, from `cache` if it is there; written whole or not at all.

    Threads: one per process; any number of processes may share a cache.
    """
    path = cache / f"{hashlib.sha1(key.encode()).hexdigest()[:20]}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part.npy")  # several processes may make it at once
        np.save(part, to_pcm(make()))
        part.replace(path)
    array: Pcm = np.load(path, mmap_mode="r")
    return array


def load(cache: Path, path: Path, shortest_s: float, trim: bool) -> Pcm:
    """A file [2, frames] at 44.1 kHz, checked, `trim` taking the silence off both ends.

    Raises TrainingDataError where it is missing or not of use.
    """
    if not path.is_file():
        raise TrainingDataError(f"{path}: missing; restore it or take it out of the list")
    stat = path.stat()

    def make() -> Audio:
        sound = screened(path, decode(path), shortest_s)
        return screened(path, trimmed(sound) if trim else sound, shortest_s)

    return cached(cache, f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {trim}", make)
