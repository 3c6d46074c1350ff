"""Scores of a model on held-out songs, beside three yardsticks: the mixture, a band-pass, an oracle mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.baselines import band_pass, ideal_ratio_masks
from model.causal import CausalBSRoformer
from model.filters import RATE_HZ
from model.metrics import si_sdr_db
from model.offline import separate
from model.training.songs import STEM_NAMES, song
from model.training.sources import Sources, load_library, to_float
from model.training.synth import Audio, frames_of

UNSEEN_SEED = 9_000_001
"""Seed of the synthesised test songs; training takes its own from other seeds."""

_SYNTHETIC_SONGS = 4
_SECONDS = 30.0


@dataclass(frozen=True)
class HeldOutSong:
    """A test song: stems [4, 2, frames] and which of them are true (a missing bass may hide in `other`)."""

    name: str
    stems: Audio
    scored: tuple[str, ...]


def held_out_songs(audio_dir: Path | None, cache: Path, seconds: float = _SECONDS) -> list[HeldOutSong]:
    """Whole songs of the test split; `seconds` each of its phrases over its instrumentals and of synthesised
    songs of unseen seeds."""
    songs = [
        HeldOutSong(f"synthesised {index}", song(UNSEEN_SEED, index, seconds), STEM_NAMES)
        for index in range(_SYNTHETIC_SONGS)
    ]
    if audio_dir is None:
        return songs
    sources = load_library(audio_dir, cache, split="test")
    return _recorded(sources) + _over_instrumentals(sources, seconds) + songs


def _recorded(sources: Sources) -> list[HeldOutSong]:
    """Whole multitracks; only what is surely clean is scored."""
    songs = []
    for source in sources.songs:
        stems = np.zeros((4, 2, source.frames), dtype=np.float32)
        for place, name in enumerate(STEM_NAMES):
            if name in source.stems:
                stems[place] = to_float(source.stems[name][:, : source.frames])
        scored = STEM_NAMES if source.complete else ("vocals", "drums")
        songs.append(HeldOutSong(Path(source.name).name, stems, scored))
    return songs


def _over_instrumentals(sources: Sources, seconds: float) -> list[HeldOutSong]:
    """Dry test phrases at -2 dB over four test instrumentals; only vocals are known."""
    songs = []
    longest = sorted(sources.singing, key=lambda pcm: -pcm.shape[-1])
    for index, pcm in enumerate(sources.backgrounds[1::2][:4] if longest else []):
        backing = to_float(pcm[:, : frames_of(seconds)])
        voice = np.concatenate([to_float(phrase) for phrase in longest[index::4]], axis=-1)[
            :, : backing.shape[-1]
        ]
        voice = np.pad(voice, ((0, 0), (0, backing.shape[-1] - voice.shape[-1])))
        voice *= 0.8 * np.sqrt(np.mean(backing**2) / np.mean(voice**2))
        stems = np.zeros((4, *backing.shape), dtype=np.float32)
        stems[0], stems[3] = voice, backing
        songs.append(HeldOutSong(f"phrases over instrumental {index}", stems, ("vocals",)))
    return songs


def _row(name: str, stem: str, truth: Audio, estimates: dict[str, Audio | None]) -> dict[str, Any]:
    scores = {
        key: None if e is None else round(float(si_sdr_db(e, truth)), 2) for key, e in estimates.items()
    }
    return {"song": name, "stem": stem, **scores}


def score_song(model: CausalBSRoformer, held_out: HeldOutSong) -> list[dict[str, Any]]:
    """One row per true stem and one for the accompaniment (all but vocals): SI-SDR in dB."""
    mixture = held_out.stems.sum(axis=0)
    estimates, ideal = separate(model, mixture), ideal_ratio_masks(mixture, held_out.stems)
    rows = []
    for place, stem in enumerate(STEM_NAMES):
        truth = held_out.stems[place]
        if stem in held_out.scored and np.any(truth):
            candidates = {
                "model": estimates[place],
                "mixture": mixture,
                "band_pass": band_pass(mixture, stem, RATE_HZ),
                "oracle": ideal[place],
            }
            rows.append(_row(held_out.name, stem, truth, candidates))
    backing = held_out.stems[1:].sum(axis=0)
    candidates = {
        "model": mixture - estimates[0],
        "mixture": mixture,
        "band_pass": None,
        "oracle": mixture - ideal[0],
    }
    rows.append(_row(held_out.name, "accompaniment", backing, candidates))
    return rows


def evaluate(
    model: CausalBSRoformer,
    songs: list[HeldOutSong],
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict[str, Any]]:
    """The score table: dicts with song, stem and SI-SDR in dB of model, mixture, band_pass and oracle.

    `band_pass` is None where no simple band describes a stem. Threads: one call per model at a time.
    """
    rows = []
    for held_out in songs:
        progress(held_out.name)
        rows += score_song(model, held_out)
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The score table for a model card."""
    lines = ["| song | stem | model | mixture | band-pass | oracle mask |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [
            f"{row[k]:.1f}" if row[k] is not None else "-"
            for k in ("model", "mixture", "band_pass", "oracle")
        ]
        lines.append(f"| {row['song']} | {row['stem']} | {' | '.join(cells)} |")
    return "\n".join(lines)
