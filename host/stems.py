"""Audio of any rate and channel count through a model: stems of the same rate, channels and length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from host.audio_files import AudioFacts
from host.progress import Advance
from host.renderers import Renderer
from host.resampling import resample_pieces
from model.pieces import Audio, gathered, of_length, shared

PARTS = {
    5: ((0, 1), (2,), (3, 4)),
    6: ((0, 1), (2,), (3,), (4, 5)),
    8: ((0, 1), (2,), (3,), (4, 5), (6, 7)),
}
"""Which channels of 5.0, 5.1 and 7.1 belong together: sides in pairs, centre and LFE alone."""


def stem_pieces(renderer: Renderer, pieces: Iterable[Audio], facts: AudioFacts) -> Iterator[Audio]:
    """Pieces [channels, frames] of a recording into pieces [stems, channels, frames], in step to the frame.

    A lone channel goes to both sides of a stereo model; its stem is the mean of both. Holds as little as the
    model does, whatever the length. Threads: one at a time.
    """
    model_hz = renderer.sample_rate_hz or facts.rate_hz
    at_model_rate = of_length(
        resample_pieces(pieces, facts.rate_hz, model_hz, facts.channels),
        -(-facts.frames * model_hz // facts.rate_hz),
    )
    stems, channels = len(renderer.stem_names), facts.channels
    lines = (done.reshape(stems * channels, -1) for done in _all_parts(renderer, at_model_rate, channels))
    for back in of_length(resample_pieces(lines, model_hz, facts.rate_hz, stems * channels), facts.frames):
        yield back.reshape(stems, channels, -1)


def _all_parts(renderer: Renderer, pieces: Iterable[Audio], channels: int) -> Iterator[Audio]:
    """Every part of the channels by itself, side by side: a model needs no two of them at a time."""
    parts = parts_of(channels, renderer.channels)
    copies = shared(pieces, len(parts))
    runs = (_one_part(renderer, part, copy) for part, copy in zip(parts, copies, strict=True))
    for done in zip(*runs, strict=True):
        yield np.concatenate(done, axis=1)


def _one_part(renderer: Renderer, part: tuple[int, ...], pieces: Iterable[Audio]) -> Iterator[Audio]:
    copies = renderer.channels // len(part)
    for stems in renderer.separate(np.repeat(piece[list(part)], copies, axis=0) for piece in pieces):
        yield stems if copies == 1 else stems.mean(axis=1, keepdims=True)


def parts_of(channels: int, at_a_time: int) -> list[tuple[int, ...]]:
    """Which channels are separated together: pairs for a stereo model, an odd last one alone."""
    if at_a_time == 1:
        return [(channel,) for channel in range(channels)]
    if channels in PARTS:
        return list(PARTS[channels])
    return [tuple(range(first, min(first + 2, channels))) for first in range(0, channels, 2)]


def separate_channels(renderer: Renderer, audio: Audio, rate_hz: int, progress: Advance) -> Audio:
    """All of `audio` [channels, frames] at once: [stems, channels, frames]."""
    facts = AudioFacts(rate_hz, *audio.shape)
    stems = np.empty((len(renderer.stem_names), *audio.shape), np.float32)
    return gathered(stem_pieces(renderer, [audio], facts), stems, progress)
