"""Excerpts of scored songs for a page to listen to: the mix, the stems, and the truth beside each."""

from __future__ import annotations

from collections.abc import Mapping

from host.report import ScoredSong, Sound, decibels
from model.metrics import si_sdr_or_none
from model.pieces import loudest
from streaming.separator import Audio

EXCERPT_S = 10.0

Stems = Mapping[str, tuple[Audio, Audio]]
"""By stem what a model gave and the truth, [channels, frames] each."""


def excerpt(title: str, mixture: Audio, stems: Stems, rate_hz: int) -> ScoredSong:
    """Ten seconds of a song, where its first stem is loudest; scores of these ten seconds. Threads: any."""
    first = next(truth for _, truth in stems.values())
    part = loudest(first, round(EXCERPT_S * rate_hz), rate_hz)
    tracks = [Sound("mix", "What went in.", mixture[:, part].copy())]
    for name, (estimate, truth) in stems.items():
        tracks.append(_track(name, estimate[:, part], truth[:, part], mixture[:, part]))
    seconds = tracks[0].audio.shape[-1] / rate_hz
    return ScoredSong(title, f"The {seconds:.0f} s with the loudest {next(iter(stems))}.", tracks, rate_hz)


def _track(name: str, estimate: Audio, truth: Audio, mixture: Audio) -> Sound:
    score, before = si_sdr_or_none(estimate, truth), si_sdr_or_none(mixture, truth)
    note = f"SI-SDR {decibels(score)}, of the unprocessed mix {decibels(before)}."
    return Sound(name, note, estimate.copy(), truth.copy())  # copies: whole songs need not stay in memory
