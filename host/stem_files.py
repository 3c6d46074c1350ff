"""One audio file to the files of its stems: same rate, channels, length and tags, and never clipped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from host.audio_files import (
    WHOLE,
    AudioFacts,
    AudioFileWriter,
    SampleFormat,
    check_writable,
    read_pieces,
    survey,
)
from host.digests import sha256_of
from host.library import RECORD, Job, source_of
from host.models import SIGNATURE
from host.outputs import write_text
from host.renderers import Quality, Renderer, SeparateError, open_renderer
from host.staging import staged
from host.stems import stem_pieces
from host.tags import read_tags, write_tags
from model.catalogue import look_ahead_suffix, resolve
from model.header import header_of
from model.pieces import Audio, shared

RESIDUAL = "residual"
BIT_CHOICES = ("float", "24", "16")
SAMPLE_FORMATS: dict[str, SampleFormat] = {"float": "float32", "24": "int24", "16": "int16"}


@dataclass(frozen=True)
class StemFormat:
    """How stems are written; `bits` None is float for WAV and 24 for FLAC. Errors: SeparateError."""

    container: Literal["wav", "flac"] = "wav"
    bits: Literal["float", "24", "16"] | None = None
    residual: bool = False

    def __post_init__(self) -> None:
        if self.container == "flac" and self.bits == "float":
            raise SeparateError("FLAC holds no float samples: choose --bits 24, or --format wav.")

    @property
    def sample_format(self) -> SampleFormat:
        return SAMPLE_FORMATS[self.bits or ("float" if self.container == "wav" else "24")]


@dataclass(frozen=True)
class Order:
    """What is to be done to every file, wherever that happens; `stems` empty means all of the model's."""

    model: str
    device: str = "auto"
    stems: tuple[str, ...] = ()
    quality: Quality = field(default_factory=Quality)
    form: StemFormat = field(default_factory=StemFormat)

    def open(self) -> Renderer:
        """Load the model. Errors as `open_renderer`, and SeparateError."""
        renderer = open_renderer(self.model, self.device, self.stems, self.quality)
        stem_files(renderer.stem_names, self.form)
        return renderer

    def settings(self) -> dict[str, Any]:
        """What decides how the stems sound. Errors: CatalogueError, CheckpointError."""
        quality = asdict(self.quality)
        for name in ("batch", "threads"):  # rounding only
            del quality[name]
        return {"model": model_hash(self.model), "stems": list(self.stems), **quality, **asdict(self.form)}


def model_hash(model: str) -> str:
    """What tells a model from others of its name. Errors: CatalogueError, CheckpointError."""
    if model == SIGNATURE:
        return SIGNATURE
    header_of(model)
    return f"sha256:{sha256_of(resolve(model))}{look_ahead_suffix(model)}"


def separate_file(
    job: Job, renderer: Renderer, form: StemFormat, settings: dict[str, Any]
) -> Generator[float, None, dict[str, Any]]:
    """Separate one file into its folder, which appears when it is whole.

    Yields the part that is done, 0..1, and returns the record that the folder holds, with `settings` in it
    (see `library.finished`). Errors: AudioFileError, SeparateError, OutputError.

    Threads: one at a time.
    """
    started = time.perf_counter()
    names = stem_files(renderer.stem_names, form)
    _spare_source(job, names.values())
    facts = survey(job.source)
    source, tags = source_of(job.source), read_tags(job.source)
    for name in names.values():
        check_writable(job.folder / name, facts.rate_hz, facts.channels, form.sample_format)
    with staged(job.folder, RECORD) as folder:
        gain = yield from _write_stems(folder, names, _stems(job.source, renderer, form, facts), facts, form)
        record = {
            "source": source,
            "settings": settings,
            "files": names,
            "sample_rate_hz": facts.rate_hz,
            "channels": facts.channels,
            "frames": facts.frames,
            "duration_s": facts.seconds,
            "gain_db": 20.0 * math.log10(gain),
            "tagged": sum(write_tags(folder / name, tags) for name in names.values()) == len(names),
            "elapsed_s": time.perf_counter() - started,
        }
        write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return record


def stem_files(stem_names: Sequence[str], form: StemFormat) -> dict[str, str]:
    """The file name of every stem, the residual's last. Errors: SeparateError."""
    if form.residual and RESIDUAL in stem_names:
        raise SeparateError("The model has a stem called residual itself: leave out --residual.")
    return {name: f"{name}.{form.container}" for name in (*stem_names, *[RESIDUAL] * form.residual)}


def _spare_source(job: Job, names: Iterable[str]) -> None:
    for name in names:
        if (job.folder / name).resolve() == job.source.resolve():
            raise SeparateError(f"{job.source} is an input and would be overwritten; choose another --out.")


def _stems(path: Path, renderer: Renderer, form: StemFormat, facts: AudioFacts) -> Iterator[Audio]:
    """The stems and, where it is wanted, what they leave of the mixture: [stems, channels, frames]."""
    if not form.residual:
        return stem_pieces(renderer, read_pieces(path), facts)
    pieces, mixture = shared(read_pieces(path), 2)
    return _with_residual(stem_pieces(renderer, pieces, facts), mixture)


def _with_residual(stems: Iterator[Audio], mixture: Iterator[Audio]) -> Iterator[Audio]:
    held = next(mixture)
    for piece in stems:
        frames = piece.shape[-1]
        while held.shape[1] < frames:
            held = np.concatenate([held, next(mixture)], axis=1)
        rest, held = held[:, :frames] - piece.sum(axis=0), held[:, frames:]
        yield np.concatenate([piece, rest[None]])


def _write_stems(
    folder: Path, names: dict[str, str], stems: Iterator[Audio], facts: AudioFacts, form: StemFormat
) -> Generator[float, None, float]:
    """Write every stem; returns the gain that was put on all of them, 1 where none would have clipped.

    What is written in whole numbers is kept as float first: the loudest sample is known at the end only.
    """
    if form.sample_format == "float32":
        yield from _write(folder, list(names.values()), stems, facts)
        return 1.0
    drafts = [f"{name}.draft.wav" for name in names]
    peak = yield from _write(folder, drafts, stems, facts)
    full = WHOLE[form.sample_format]
    gain = (full - 1.0) / (full * peak) if peak > 1.0 else 1.0
    for draft, name in zip(drafts, names.values(), strict=True):
        with AudioFileWriter(folder / name, facts.rate_hz, facts.channels, form.sample_format) as writer:
            for piece in read_pieces(folder / draft):
                writer.write(piece * np.float32(gain))
        (folder / draft).unlink()
    return gain


def _write(
    folder: Path, names: list[str], stems: Iterator[Audio], facts: AudioFacts
) -> Generator[float, None, float]:
    """Write stems side by side as float; returns the loudest sample."""
    peak, done = 0.0, 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(AudioFileWriter(folder / name, facts.rate_hz, facts.channels))
            for name in names
        ]
        for piece in stems:
            peak = max(peak, float(np.abs(piece).max(initial=0.0)))
            for writer, stem in zip(writers, piece, strict=True):
                writer.write(stem)
            done += piece.shape[-1]
            yield done / facts.frames
    return peak
