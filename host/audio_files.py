"""Audio files: read and written piece by piece, and never left half-written."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from pedalboard.io import AudioFile

from model.files import has_unicode_name
from model.training.headers import frames_held
from streaming.separator import Audio

MAX_CHANNELS = 64
LEAST_RATE_HZ, MOST_RATE_HZ = 8000, 192000
READ_FRAMES = 1 << 16
FLAC_CHANNELS = 8
FORMATS = (".wav", ".flac")

SampleFormat = Literal["float32", "int24", "int16"]
BITS = {"float32": 32, "int24": 24, "int16": 16}
WHOLE = {"int8": 2.0**7, "int16": 2.0**15, "int24": 2.0**23, "int32": 2.0**31}
"""Full scale of the whole numbers in a file; the largest is one less."""


class AudioFileError(ValueError):
    """A file that cannot be read or written, in one line: which, why, what to do."""


@dataclass(frozen=True)
class AudioFacts:
    """What a file holds; `frames` were counted by decoding them, since headers of MP3 may only estimate."""

    rate_hz: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate_hz


def read_audio(path: str | Path) -> tuple[Audio, int]:
    """Read a whole file: audio [channels, frames] float32 and its rate in Hz.

    WAV, FLAC, OGG, MP3, AIFF and what else the system decodes; a float WAV comes back to the bit, and of n
    bits the whole number k is k / 2^(n-1).

    Raises
    ------
    AudioFileError
        Missing, unreadable, no frames, more than 64 channels, a rate outside 8 to 192 kHz, samples that are
        NaN or infinite.
    """
    rate_hz, _channels = _header(Path(path))
    return np.concatenate(list(read_pieces(path)), axis=1, dtype=np.float32), rate_hz


def survey(path: Path) -> AudioFacts:
    """Decode a file once, so that what is wrong with it shows before any work. Errors as `read_audio`."""
    rate_hz, channels = _header(path)
    return AudioFacts(rate_hz, channels, sum(piece.shape[1] for piece in read_pieces(path)))


def read_pieces(path: str | Path) -> Iterator[Audio]:
    """The audio of a file in order, [channels, frames] at a time. Errors as `read_audio`.

    Threads: one at a time.
    """
    path = Path(path)
    _header(path)
    with _readable(path), AudioFile(str(path)) as source:
        left = frames_held(path, sys.maxsize)  # what is promised may be an estimate
        while left and (piece := source.read(min(READ_FRAMES, left))).shape[1]:
            left -= piece.shape[1]
            if not np.isfinite(piece).all():
                raise AudioFileError(
                    f"{path}: holds samples that are NaN or infinite; export it again from where it was made."
                )
            yield _to_scale(piece, source.file_dtype)


def _to_scale(piece: Audio, kind: str) -> Audio:
    """Samples as all other readers give them: pedalboard divides whole numbers by 2^(n-1) - 1."""
    full = WHOLE.get(kind)
    if full is None:
        return piece
    whole = np.rint(piece.astype(np.float64) * (full - 1.0))
    return (whole / full).astype(np.float32)


def _header(path: Path) -> tuple[int, int]:
    """Rate in Hz and channels. Errors as `read_audio`."""
    if path.is_dir():
        raise AudioFileError(f"{path}: is a folder; name the files in it.")
    if not path.is_file():
        raise AudioFileError(f"{path}: there is no such file; check the name.")
    if not has_unicode_name(path):
        raise AudioFileError(f"{path}: its name is not in UTF-8; rename it.")
    with _readable(path), AudioFile(str(path)) as source:
        rate_hz, channels = int(source.samplerate), int(source.num_channels)
        if frames_held(path, source.frames) == 0:
            raise AudioFileError(f"{path}: holds no audio (0 frames); choose another file.")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioFileError(f"{path}: has {channels} channels; 1 to {MAX_CHANNELS} work.")
    _check_rate(path, rate_hz)
    return rate_hz, channels


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except AudioFileError:
        raise
    except (ValueError, RuntimeError, OSError):
        raise AudioFileError(f"{path}: cannot be read as audio; convert it to WAV or FLAC.") from None


def _check_rate(path: Path, rate_hz: int) -> None:
    if not LEAST_RATE_HZ <= rate_hz <= MOST_RATE_HZ:
        raise AudioFileError(f"{path}: a rate of {rate_hz} Hz; {LEAST_RATE_HZ} to {MOST_RATE_HZ} Hz work.")


def check_writable(path: Path, rate_hz: int, channels: int, sample_format: SampleFormat) -> None:
    """Whether a file of that name can hold such audio. Errors: AudioFileError."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise AudioFileError(f"{path}: cannot write '{suffix}'; end the name in .wav or .flac.")
    most = FLAC_CHANNELS if suffix == ".flac" else MAX_CHANNELS
    if not 1 <= channels <= most:
        raise AudioFileError(f"{path}: {channels} channels; {suffix} takes 1 to {most}.")
    if suffix == ".flac" and sample_format == "float32":
        raise AudioFileError(f"{path}: FLAC holds no float samples; use int24 or .wav.")
    _check_rate(path, rate_hz)


class AudioFileWriter:
    """Writes a WAV or FLAC piece by piece under a temporary name; `close` gives it its name at once.

    Leaving a `with` block by an error, or `discard`, removes what was written and leaves an older file alone.

    Parameters
    ----------
    path : ends in .wav or .flac; missing folders are made
    rate_hz, channels : of the audio
    sample_format : "float32" (WAV only) keeps every sample to the bit; the others clip at full scale

    Errors: AudioFileError.

    Threads: one at a time.
    """

    def __init__(
        self, path: str | Path, rate_hz: int, channels: int, sample_format: SampleFormat = "float32"
    ) -> None:
        self.path = Path(path)
        self.frames = 0
        check_writable(self.path, rate_hz, channels, sample_format)
        self._channels = channels
        self._format = sample_format
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = AudioFile(str(self._part), "w", rate_hz, channels, bit_depth=BITS[sample_format])
        except (ValueError, OSError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> AudioFileError:
        reason = " ".join(str(error).split())
        return AudioFileError(f"{self.path}: cannot be written ({reason}); choose a folder you may write to.")

    def write(self, audio: Audio) -> None:
        """Append audio [channels, frames]; the array may be reused at once."""
        if audio.shape[0] != self._channels:
            raise AudioFileError(f"{self.path}: {audio.shape[0]} channels given, {self._channels} declared.")
        if audio.shape[1] == 0:
            return
        try:
            self._file.write(self._samples(audio))
        except (RuntimeError, ValueError, OSError) as error:
            self.discard()
            raise self._failure(error) from None
        self.frames += audio.shape[1]

    def _samples(self, audio: Audio) -> Any:
        """As the file holds them: pedalboard would round whole numbers down, half a step off on average."""
        if self._format == "float32":
            return np.ascontiguousarray(audio, np.float32)
        full = WHOLE[self._format]
        whole = np.clip(np.rint(audio * np.float32(full)), -full, full - 1.0)
        if self._format == "int16":
            return whole.astype(np.int16)
        return np.left_shift(whole.astype(np.int32), 8)  # 24 bits lie in the upper ones of 32

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._file.close()
        try:
            self._part.replace(self.path)
        except OSError as error:
            self.discard()
            raise self._failure(error) from None

    def discard(self) -> None:
        """Remove what was written; harmless after it is gone."""
        with contextlib.suppress(RuntimeError):  # it was closed before
            self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def write_audio(
    path: str | Path, audio: Audio, rate_hz: int, sample_format: SampleFormat = "float32"
) -> None:
    """Write audio [channels, frames] as one file, whole or not at all. Errors: AudioFileError."""
    with AudioFileWriter(path, rate_hz, audio.shape[0], sample_format) as file:
        file.write(audio)
