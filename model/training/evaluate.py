"""Scores of models on held-out songs, beside yardsticks: mixture, band-pass, static EQ, oracle mask."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.baselines import (
    Bins,
    band_pass,
    equalised,
    ideal_ratio_masks,
    less_scaled,
    likeness,
    static_eq,
)
from model.causal import CausalBSRoformer
from model.filters import RATE_HZ
from model.metrics import framewise_sdr_db, si_sdr_db
from model.offline import separate
from model.pieces import loudest
from model.training.recordings import to_float
from model.training.songs import STEM_NAMES, UNSEEN_SEED, song
from model.training.sources import Sources, load_library
from model.training.synth import Audio, frames_of

REAL, PHRASES, SYNTHETIC = "real", "phrases", "synthetic"
"""The sets: multitracks, phrases over instrumentals, songs of the generator."""

TRUE_PARTS = {name: (name,) for name in STEM_NAMES} | {"accompaniment": STEM_NAMES[1:]}
"""What is scored, and the true stems that it is the sum of."""

BASELINES = ("mixture", "band_pass", "static_eq", "oracle")
BEST_DB = 100.0  # beyond this, either way, a score only says that floats are finite
LEAST_HEARD = 1e-4
"""A window is heard if it is at most 40 dB quieter than the loudest one of its stem."""

_SYNTHETIC_SONGS = 4
_SECONDS = 30.0

Separate = Callable[[Audio], Mapping[str, Audio]]
"""A mixture [2, frames] into its stems by name, [2, frames] each."""

Row = dict[str, Any]
"""`set`, `song`, `stem`, and for every system (baseline or model) its `si_sdr` and `sdr`, or None."""


@dataclass(frozen=True)
class HeldOutSong:
    """A test song: stems [4, 2, frames] and which of them are true (a missing bass may hide in `other`).

    `lead_in` [2, frames] is what models hear of the mixture before; nothing of it is scored.
    """

    name: str
    stems: Audio
    scored: tuple[str, ...]
    kind: str = SYNTHETIC
    lead_in: Audio = field(default_factory=lambda: np.zeros((2, 0), np.float32))

    @property
    def mixture(self) -> Audio:
        """[2, frames]."""
        mixture: Audio = self.stems.sum(axis=0)
        return mixture

    @property
    def seconds(self) -> float:
        return int(self.stems.shape[-1]) / RATE_HZ

    def truth(self, stem: str) -> Audio | None:
        """One of TRUE_PARTS [2, frames]; None where it is not known for sure, or silent.

        The accompaniment is known with the vocals, whatever is known of its parts; without vocals it is the
        mixture itself, and not scored.
        """
        if stem == "accompaniment" and self.truth("vocals") is None:
            return None
        if stem in STEM_NAMES and stem not in self.scored:
            return None
        truth: Audio = self.stems[[STEM_NAMES.index(part) for part in TRUE_PARTS[stem]]].sum(axis=0)
        return truth if truth.any() else None

    def excerpt(self, seconds: float, lead_in_s: float = 0.0) -> HeldOutSong:
        """The part of this length with the loudest vocals and so much before it, all of what follows the
        first `lead_in_s` where that is shorter."""
        lead = frames_of(lead_in_s)
        part = loudest(self.stems[0, :, lead:], frames_of(seconds), RATE_HZ)
        before = self.mixture[:, part.start : part.start + lead]
        return replace(self, stems=self.stems[..., lead:][..., part], lead_in=before)


def held_out_songs(
    audio_dir: Path | None, cache: Path, tell: Callable[[str], None], seconds: float = _SECONDS
) -> list[HeldOutSong]:
    """Whole songs of the test split; `seconds` each of its phrases over its instrumentals and of synthesised
    songs of unseen seeds.

    `tell` is told, a line each, which files are left out and why: scores without them are other scores.
    Raises TrainingDataError where there is no such library, before it makes a song.
    """
    sources = Sources() if audio_dir is None else load_library(audio_dir, cache, split="test")
    for line in sources.remarks():
        tell(line)
    songs = [
        HeldOutSong(f"synthesised {index}", song(UNSEEN_SEED, index, seconds), STEM_NAMES)
        for index in range(_SYNTHETIC_SONGS)
    ]
    return _recorded(sources) + _over_instrumentals(sources, seconds) + songs


def _recorded(sources: Sources) -> list[HeldOutSong]:
    """Whole multitracks; only what is surely clean is scored."""
    songs = []
    for source in sources.songs:
        stems = np.zeros((4, 2, source.frames), dtype=np.float32)
        for place, name in enumerate(STEM_NAMES):
            if name in source.stems:
                stems[place] = to_float(source.stems[name][:, : source.frames])
        clean = STEM_NAMES if source.complete else ("vocals", "drums")
        scored = tuple(name for name in clean if name in source.stems)
        songs.append(HeldOutSong(Path(source.name).name, stems, scored, REAL))
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
        songs.append(HeldOutSong(f"phrases over instrumental {index}", stems, ("vocals",), PHRASES))
    return songs


def equalisers(songs: Sequence[HeldOutSong]) -> list[dict[str, Bins]]:
    """For every song the gains by stem of the static EQ, fitted on all the other songs of the list.

    A stem that no other song knows has none.
    """
    known = [
        {stem: likeness(held_out.mixture, truth) for stem, truth in _truths(held_out).items()}
        for held_out in songs
    ]
    fitted = []
    for place in range(len(songs)):
        others = known[:place] + known[place + 1 :]
        by_stem = {stem: [song[stem] for song in others if stem in song] for stem in TRUE_PARTS}
        fitted.append({stem: static_eq(found) for stem, found in by_stem.items() if found})
    return fitted


def _truths(held_out: HeldOutSong) -> dict[str, Audio]:
    truths = {stem: held_out.truth(stem) for stem in TRUE_PARTS}
    return {stem: truth for stem, truth in truths.items() if truth is not None}


def scores_of(estimate: Audio | None, truth: Audio) -> dict[str, float | None] | None:
    """SI-SDR of the whole, and SDR as the median over 1-s windows, in dB. None without an estimate.

    The SDR is that of `stembridge evaluate`, but of the windows in which this stem is heard: fading echoes
    far below it sound to museval, and would be half of the windows of a song with few vocals.
    """
    if estimate is None:
        return None
    return {
        "si_sdr": _rounded(float(si_sdr_db(estimate, truth))),
        "sdr": _rounded(_median_sdr_db(estimate, truth)),
    }


def _median_sdr_db(estimate: Audio, truth: Audio) -> float:
    """NaN where no window is both heard and defined."""
    (sdr,) = framewise_sdr_db(estimate[None], truth[None], RATE_HZ)
    length = min(RATE_HZ, truth.shape[-1])
    windows = truth[:, : len(sdr) * length].reshape(len(truth), len(sdr), length)
    energy = np.square(windows, dtype=np.float64).sum(axis=(0, 2))
    counted = sdr[(energy > LEAST_HEARD * energy.max()) & ~np.isnan(sdr)]
    return float(np.median(counted)) if len(counted) else math.nan


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(max(-BEST_DB, min(BEST_DB, value)), 2)


def whole(model: CausalBSRoformer) -> Separate:
    """A model on whole signals."""
    return lambda mixture: dict(zip(model.config.stem_names, separate(model, mixture), strict=True))


def estimates_of(separate: Separate, mixture: Audio) -> Mapping[str, Audio]:
    """What a model of four stems, or of vocals and the rest, gives for TRUE_PARTS.

    The accompaniment of four stems is the mixture less the vocals.
    """
    found = separate(mixture)
    if len(found) == 2:
        (rest,) = (name for name in found if name != "vocals")
        return {"vocals": found["vocals"], "accompaniment": found[rest]}
    return {**found, "accompaniment": mixture - found["vocals"]}


def _baselines(held_out: HeldOutSong, stem: str, truth: Audio, ideal: Audio, gains: Bins | None) -> Row:
    """Estimates of the baselines; the accompaniment's band-pass is the mixture less that of the vocals."""
    mixture = held_out.mixture
    band = band_pass(mixture, "vocals" if stem == "accompaniment" else stem, RATE_HZ)
    if stem == "accompaniment" and band is not None:
        band = less_scaled(mixture, band, truth)
    parts = [STEM_NAMES.index(part) for part in TRUE_PARTS[stem]]
    return {
        "mixture": mixture,
        "band_pass": band,
        "static_eq": None if gains is None else equalised(mixture, gains, RATE_HZ),
        "oracle": ideal[parts].sum(axis=0),
    }


def _after_lead_in(separate: Separate, held_out: HeldOutSong) -> Mapping[str, Audio]:
    lead = held_out.lead_in.shape[-1]
    found = estimates_of(separate, np.concatenate([held_out.lead_in, held_out.mixture], axis=1))
    return {stem: sound[:, lead:] for stem, sound in found.items()}


def score_song(models: Mapping[str, Separate], held_out: HeldOutSong, gains: Mapping[str, Bins]) -> list[Row]:
    """One row per stem whose truth is known, the accompaniment (all but vocals) included."""
    mixture = held_out.mixture
    separated = {name: _after_lead_in(model, held_out) for name, model in models.items()}
    ideal = ideal_ratio_masks(mixture, held_out.stems)
    rows = []
    for stem, truth in _truths(held_out).items():
        guesses = _baselines(held_out, stem, truth, ideal, gains.get(stem))
        guesses |= {name: found.get(stem) for name, found in separated.items()}
        scores = {system: scores_of(guess, truth) for system, guess in guesses.items()}
        rows.append({"set": held_out.kind, "song": held_out.name, "stem": stem, **scores})
    return rows


def evaluate(
    models: Mapping[str, Separate],
    songs: Sequence[HeldOutSong],
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """The score table of all models, by name, on all songs.

    `progress` is told a line at first and before every song, with the time that is left. A system without an
    estimate of a stem has None: no simple band describes drums or `other`.
    Threads: one call per model at a time.
    """
    rows: list[Row] = []
    total, done = sum(held_out.seconds for held_out in songs), 0.0
    progress(f"{len(songs)} songs, {total:.0f} s of audio: fitting the equaliser")
    fitted, began = equalisers(songs), time.monotonic()
    for number, (held_out, gains) in enumerate(zip(songs, fitted, strict=True), 1):
        left = f", {(time.monotonic() - began) * (total / done - 1):.0f} s left" if done else ""
        progress(f"{number}/{len(songs)} {held_out.name} ({held_out.seconds:.0f} s of audio){left}")
        rows += score_song(models, held_out, gains)
        done += held_out.seconds
    return rows
