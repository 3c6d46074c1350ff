"""Audio files: read whole, written piece by piece, and never left half-written."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from pedalboard.io import AudioFile

from streaming.separator import Audio

MAX_CHANNELS = 64
LEAST_RATE_HZ, MOST_RATE_HZ = 8000, 192000
READ_FRAMES = 1 << 18
FLAC_CHANNELS = 8
FORMATS = (".wav", ".flac")

SampleFormat = Literal["float32", "int24"]
BITS = {"float32": 32, "int24": 24}


class AudioFileError(ValueError):
    """A file that cannot be read or written, in one line: which, why, what to do."""


class AudioFileWarning(UserWarning):
    """Something about a file that was mended in reading."""


def read_audio(path: str | Path) -> tuple[Audio, int]:
    """Read a whole file: audio [channels, frames] float32 and its rate in Hz.

    WAV, FLAC, OGG, MP3, AIFF and what else the system decodes; a float WAV comes back to the bit.
    Samples that are NaN or infinite become 0, and an `AudioFileWarning` says how many.

    Raises
    ------
    AudioFileError
        Missing, unreadable, no frames, more than 64 channels, a rate outside 8 to 192 kHz.
    """
    path = Path(path)
    if path.is_dir():
        raise AudioFileError(f"{path}: is a folder; name the files in it.")
    if not path.is_file():
        raise AudioFileError(f"{path}: there is no such file; check the name.")
    try:
        with AudioFile(str(path)) as source:
            rate_hz, channels, frames = int(source.samplerate), int(source.num_channels), int(source.frames)
            _check_shape(path, rate_hz, channels, frames)
            pieces = [source.read(READ_FRAMES) for _ in range(0, frames, READ_FRAMES)]
    except (ValueError, RuntimeError, OSError) as error:
        if isinstance(error, AudioFileError):
            raise
        raise AudioFileError(f"{path}: cannot be read as audio; convert it to WAV or FLAC.") from None
    audio = np.concatenate(pieces, axis=1, dtype=np.float32)
    _zero_non_finite(path, audio)
    return audio, rate_hz


def _check_shape(path: Path, rate_hz: int, channels: int, frames: int) -> None:
    if frames == 0:
        raise AudioFileError(f"{path}: holds no audio (0 frames); choose another file.")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioFileError(f"{path}: has {channels} channels; 1 to {MAX_CHANNELS} work.")
    _check_rate(path, rate_hz)


def _check_rate(path: Path, rate_hz: int) -> None:
    if not LEAST_RATE_HZ <= rate_hz <= MOST_RATE_HZ:
        raise AudioFileError(f"{path}: a rate of {rate_hz} Hz; {LEAST_RATE_HZ} to {MOST_RATE_HZ} Hz work.")


def _zero_non_finite(path: Path, audio: Audio) -> None:
    bad = ~np.isfinite(audio)
    if count := int(bad.sum()):
        audio[bad] = 0.0
        warnings.warn(
            f"{path}: {count} samples were no numbers and count as 0.", AudioFileWarning, stacklevel=3
        )


def to_stereo(audio: Audio) -> Audio:
    """Any [channels, frames] as [2, frames]: mono goes to both sides, more than two are mixed down.

    5.1 (L R C LFE Ls Rs) follows ITU-R BS.775: centre and surrounds at -3 dB, no LFE. Of other layouts odd
    channels go left and even ones right, each side's mean, so nothing is left out and nothing clips.
    """
    channels = audio.shape[0]
    if channels == 2:
        return audio
    if channels == 1:
        return np.repeat(audio, 2, axis=0)
    if channels == 6:
        half_power = np.float32(np.sqrt(0.5))
        return np.asarray(audio[0:2] + half_power * (audio[2] + audio[4:6]), np.float32)
    return np.stack([audio[0::2].mean(axis=0), audio[1::2].mean(axis=0)])


class AudioFileWriter:
    """Writes a WAV or FLAC piece by piece under a temporary name; `close` gives it its name at once.

    Leaving a `with` block by an error, or `discard`, removes what was written and leaves an older file alone.

    Parameters
    ----------
    path : ends in .wav or .flac; missing folders are made
    rate_hz, channels : of the audio
    sample_format : "float32" (WAV only) keeps every sample to the bit; "int24" clips at full scale

    Errors: AudioFileError.

    Threads: one at a time.
    """

    def __init__(
        self, path: str | Path, rate_hz: int, channels: int, sample_format: SampleFormat = "float32"
    ) -> None:
        self.path = Path(path)
        self.frames = 0
        self._check(rate_hz, channels, sample_format)
        self._channels = channels
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = AudioFile(str(self._part), "w", rate_hz, channels, bit_depth=BITS[sample_format])
        except (ValueError, OSError) as error:
            raise self._failure(error) from None

    def _check(self, rate_hz: int, channels: int, sample_format: SampleFormat) -> None:
        suffix = self.path.suffix.lower()
        if suffix not in FORMATS:
            raise AudioFileError(f"{self.path}: cannot write '{suffix}'; end the name in .wav or .flac.")
        most = FLAC_CHANNELS if suffix == ".flac" else MAX_CHANNELS
        if not 1 <= channels <= most:
            raise AudioFileError(f"{self.path}: {channels} channels; {suffix} takes 1 to {most}.")
        if suffix == ".flac" and sample_format == "float32":
            raise AudioFileError(f"{self.path}: FLAC holds no float samples; use int24 or .wav.")
        _check_rate(self.path, rate_hz)

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
            self._file.write(np.ascontiguousarray(audio, np.float32))
        except (RuntimeError, ValueError, OSError) as error:
            self.discard()
            raise self._failure(error) from None
        self.frames += audio.shape[1]

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
