"""Reads audio files for training: decoded whole, checked, and kept as int16 arrays in a cache."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.files import has_unicode_name, whole
from model.filters import RATE_HZ
from model.training.headers import ends_early, frames_held, sum_differs
from model.training.recipe import TrainingError
from model.training.synth import Audio, frames_of

Pcm = NDArray[np.int16]
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".m4a"}
_QUIETEST_PEAK = 10.0 ** (-45.0 / 20.0)
_LOSSY = {".ogg", ".mp3", ".m4a"}
_LOUDEST_PEAK, _LOUDEST_LOSSLESS_PEAK = 2.0, 10.0 ** (1.0 / 20.0)


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

    Raises TrainingDataError where it cannot be read, ends early, has more than two channels or is too loud
    for int16.
    """
    import soxr
    from pedalboard.io import AudioFile

    try:
        if ends_early(path):  # before as much memory is taken as the header promises
            raise _cut(path)
        with AudioFile(str(path)) as file:
            sound = np.asarray(file.read(frames_held(path, file.frames) or 1), dtype=np.float32)
            rate_hz = file.samplerate
    except TrainingDataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path) from error
    if len(sound) > 2:
        raise TrainingDataError(f"{path}: has {len(sound)} channels; export it as mono or stereo")
    if sum_differs(path, sound):
        raise _cut(path)
    peak = np.abs(sound).max(initial=0.0)
    if path.suffix.lower() not in _LOSSY and _LOUDEST_LOSSLESS_PEAK < peak < math.inf:
        raise TrainingDataError(f"{path}: peaks more than 1 dB above full scale; export it at a lower level")
    if rate_hz != RATE_HZ:
        sound = np.ascontiguousarray(soxr.resample(sound.T, rate_hz, RATE_HZ).T)
    return sound if len(sound) == 2 else np.repeat(sound, 2, axis=0)


def _unreadable(path: Path) -> TrainingDataError:
    return TrainingDataError(f"{path}: cannot be read as audio; remove or replace it")


def _cut(path: Path) -> TrainingDataError:
    return TrainingDataError(f"{path}: ends early or is damaged; copy or download it again")


def screened(path: Path, sound: Audio, shortest_s: float) -> Audio:
    """The sound, if it is of use. Raises TrainingDataError for non-finite, short, silent or too loud audio.

    Lossy decoders and resampling overshoot full scale, and those peaks are clipped.
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
    """The array made by `make`, as int16, from `cache` if it is there whole; written whole or not at all.

    Raises TrainingError where it cannot be written.
    Threads: one per process; any number of processes may share a cache.
    """
    path = cache / f"{hashlib.sha1(os.fsencode(key)).hexdigest()[:20]}.npy"
    kept = _kept(path)
    if kept is not None:
        return kept
    made = to_pcm(make())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with whole(path) as part, part.open("wb") as file:  # several processes may make it at once
            np.save(file, made)
    except OSError as error:
        raise TrainingError(
            f"{cache}: cannot keep what is decoded ({error.strerror or error}); make room on the disk"
        ) from None
    array: Pcm = np.load(path, mmap_mode="r")
    return array


def _kept(path: Path) -> Pcm | None:
    """The array of a file; None where there is none, or a disk that was full has cut it."""
    try:
        array: Pcm = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return array


def load(cache: Path, path: Path, shortest_s: float, trim: bool) -> Pcm:
    """A file [2, frames] at 44.1 kHz, checked, `trim` taking the silence off both ends.

    Raises TrainingDataError where it is missing or not of use, TrainingError as `cached`.
    """
    if not has_unicode_name(path):
        raise TrainingDataError(f"{path}: its name is not in UTF-8; rename it")
    if not path.is_file():
        raise TrainingDataError(f"{path}: missing; restore it or take it out of the list")
    stat = path.stat()

    def make() -> Audio:
        sound = screened(path, decode(path), shortest_s)
        return screened(path, trimmed(sound) if trim else sound, shortest_s)

    return cached(cache, f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {trim}", make)
