"""The endless stream of training items: item i of a seed is the same on every run and every resume.

An item is a short mixture and its stems. What is recorded is mixed with what the project synthesises;
without any recordings the stream consists of synthesised songs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.filters import RATE_HZ, filtered
from model.training.bands import placed, swept
from model.training.mastering import mastered
from model.training.mix import DEFAULT_MIX, Mix, MixError
from model.training.production import chopped, doubled, other_throat, produced
from model.training.recordings import Pcm, cached, to_float
from model.training.sequenced import instruments, sequenced_song
from model.training.songs import STEM_NAMES, bass_line, song
from model.training.sources import Sources, StemSong
from model.training.synth import (
    Audio,
    Rng,
    active_rms,
    add_at,
    frames_of,
    levelled,
    random_eq,
    reverberated,
    room,
)

GENERATOR_VERSION = 2
"""Part of the cache key of rendered songs: raise it when the song generator changes."""

# How likely each is, of the items, voices or stems it concerns:
SILENCED_STEM = 0.1
FRESH_BASS = 0.6
ROOM_FOR_BASS = 0.8
AIRY_VOICE = 0.2
PRODUCED_VOICE = 0.35
DOUBLED_VOICE = 0.3
OTHER_THROAT = 0.4
CHOPPED_VOICE = 0.15
LONG_ROOM = 0.2
FAR_PITCH = 0.3
PLACED_OTHER = 0.3
SWEPT_OTHER = 0.2
VOICE_DB = (-10.0, 4.0)
"""Three dB less, as songs are mixed, taught the dial to leave voices out (benchmarks/RESULTS.md)."""
REMIX_SEMITONES = {"drums": (-3.0, 5.0), "bass": (-12.0, 3.0), "other": (-4.0, 4.0)}
"""Basses go far down, drums up: below 60 Hz a sound must not pass for a kick because it is low."""
REMIX_GAIN_DB = {"drums": (-7.0, 7.0), "bass": (-7.0, 11.0), "other": (-7.0, 7.0)}
"""Relative to -21 dBFS. In dance music the bass is often louder than all the rest."""


@dataclass(frozen=True)
class Pool:
    """How many songs of each kind are rendered, and how long they are."""

    songs: int = 64
    seconds: float = 20.0


@dataclass(frozen=True)
class Item:
    """Stems [4, 2, frames]. `split` is False where drums, bass and other are known only as their sum,
    which then lies in `other`."""

    stems: Audio
    split: bool


def draw(rng: Rng, weights: dict[str, float], available: Sequence[str]) -> str:
    """One of the available kinds, by weight."""
    kinds = [kind for kind in weights if kind in available]
    chances = np.array([weights[kind] for kind in kinds])
    return kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]


def excerpt(pcm: Pcm, start: int, frames: int, ratio: float) -> Audio:
    """`frames` frames [2, frames] from `start`, read `ratio` times faster; silence after the end."""
    needed = int(np.ceil(frames * ratio)) + 1
    part = to_float(pcm[:, start : start + needed])
    part = np.pad(part, ((0, 0), (0, needed - part.shape[-1])))
    at, grid = np.arange(frames) * ratio, np.arange(needed)
    return np.stack([np.interp(at, grid, channel) for channel in part]).astype(np.float32)


def airy(voice: Audio, gain_db: float) -> Audio:
    """A voice with its treble raised: breath and sibilance as loud as cymbals must stay vocals."""
    return filtered(voice, np.array([1.0, 10.0 ** (gain_db / 20.0)]), np.array([3000.0, 9000.0]))


def _require_some(weights: dict[str, float], available: Sequence[str]) -> None:
    if not any(weights[kind] for kind in available):
        wanted = ", ".join(kind for kind, weight in weights.items() if weight)
        raise MixError(f"mix: nothing to draw from {wanted}; give recordings or raise synthetic")


def lives_below_60_hz(sound: Audio) -> bool:
    """Whether most of a sound's energy lies there."""
    power = np.square(np.abs(np.fft.rfft(sound))).sum(axis=0)
    return bool(power[: round(60.0 * sound.shape[-1] / RATE_HZ)].sum() > 0.5 * power.sum() > 0.0)


def without_lows(rng: Rng, drums: Audio) -> Audio:
    """Drums cut below about 60 Hz: mixing engineers leave that octave to one of kick and bass."""
    return filtered(drums, np.array([0.05, 1.0]), np.array([rng.uniform(30, 50), rng.uniform(60, 90)]))


class ItemStream:
    """Items by index. Rendered songs are cached on first use.

    Parameters: `sources` (may be empty), `cache` folder, `seed`, `frames` per item, `pool` of rendered songs,
    `mix` of what items consist of. Raises MixError where the mix asks for nothing that there is.
    Threads: any; items do not depend on each other.
    """

    def __init__(
        self, sources: Sources, cache: Path, seed: int, frames: int, pool: Pool, mix: Mix = DEFAULT_MIX
    ) -> None:
        self.sources, self._cache, self._seed, self._frames = sources, cache, seed, frames
        self._pool, self._mix = pool, mix
        self._instruments = instruments(sources.one_shots)
        self._one_shots = str([(str(path), pcm.shape[-1]) for path, pcm in sorted(sources.one_shots.items())])
        self._recorded_voices = [s.stems["vocals"] for s in sources.songs if "vocals" in s.stems]
        self._accompaniments = ["synthetic"]
        self._accompaniments += ["background"] * bool(sources.backgrounds) + ["recorded"] * bool(
            sources.songs
        )
        self._accompaniments += ["sequenced"] * bool(self._instruments.kits)
        self._voices = ["synthetic"] + ["singing"] * bool(sources.singing) + ["speech"] * bool(sources.speech)
        self._voices += ["recorded"] * bool(self._recorded_voices)
        _require_some(mix.accompaniments, self._accompaniments)
        _require_some(mix.voices, self._voices)

    @property
    def remarks(self) -> list[str]:
        """Lines worth reading of the recordings, and of what this stream makes of them."""
        return self.sources.remarks()

    def item(self, index: int) -> Item:
        """Item number `index`: [4, 2, frames] stems, the same for the same seed and sources."""
        rng = np.random.default_rng((self._seed, index))
        kind = draw(rng, self._mix.accompaniments, self._accompaniments)
        if kind == "background":
            stems, split, sung = self._background(rng), False, False
        elif kind != "sequenced" and rng.random() < 0.5:
            stems, split, sung = self._whole_song(rng, self._song(rng, kind))
        else:
            stems, split, sung = self._remix(rng, kind), True, False
        if not sung:
            stems[0] = self._fitting_voice(rng, stems[1:].sum(axis=0))
        split |= self._thinned(rng, stems, split)
        stems = mastered(rng, stems)
        if rng.random() < 0.5:
            stems = stems[:, ::-1]
        return Item(stems * np.float32(10.0 ** (rng.uniform(-15, 15) / 20.0)), split)

    def _thinned(self, rng: Rng, stems: Audio, split: bool) -> bool:
        """Silence the voice, all but the voice, or another stem; true where the voice is left alone."""
        fate = rng.random()
        alone = 0.0 <= fate - self._mix.without_vocals < self._mix.vocals_alone and bool(stems[0].any())
        if fate < self._mix.without_vocals:
            stems[0] = 0.0
        elif alone:
            stems[1:] = 0.0
        if split and rng.random() < SILENCED_STEM:
            stems[rng.integers(1, 4)] = 0.0
        return alone

    def _song(self, rng: Rng, kind: str) -> StemSong:
        if kind == "recorded":
            return self.sources.songs[rng.integers(len(self.sources.songs))]
        return self._pool_song(kind, int(rng.integers(self._pool.songs)))

    def _pool_song(self, kind: str, index: int) -> StemSong:
        made_of = self._one_shots if kind == "sequenced" else ""
        key = f"{kind} {GENERATOR_VERSION} {self._seed} {index} {self._pool.seconds} {made_of}"
        makers: dict[str, Callable[[], Audio]] = {
            "synthetic": lambda: song(self._seed, index, self._pool.seconds),
            "sequenced": lambda: sequenced_song(self._instruments, self._seed, index, self._pool.seconds),
        }
        stems = cached(self._cache, key, makers[kind])
        return StemSong(f"{kind} {index}", dict(zip(STEM_NAMES, stems, strict=True)))

    def _start(self, rng: Rng, available_frames: int, ratio: float) -> int:
        return int(rng.integers(max(1, available_frames - int(self._frames * ratio) - 2)))

    def _audible(self, rng: Rng, pcm: Pcm, semitones: tuple[float, float] = (-3.0, 3.0)) -> Audio:
        """An excerpt at a random pitch; silence where a few tries find nothing else."""
        ratio = 2.0 ** (rng.uniform(*semitones) / 12.0)
        for _ in range(6):
            sound = excerpt(pcm, self._start(rng, pcm.shape[-1], ratio), self._frames, ratio)
            if active_rms(sound) > 10.0 ** (-50.0 / 20.0):
                return sound
        return np.zeros_like(sound)

    def _background(self, rng: Rng) -> Audio:
        backgrounds = self.sources.backgrounds
        stems = np.zeros((4, 2, self._frames), dtype=np.float32)
        stems[3] = levelled(
            self._audible(rng, backgrounds[rng.integers(len(backgrounds))]), rng.uniform(-24, -17)
        )
        return stems

    def _whole_song(self, rng: Rng, source: StemSong) -> tuple[Audio, bool, bool]:
        """One place of one song, stems +- 3 dB: (stems, split, whether its own vocals are kept)."""
        stems = np.zeros((4, 2, self._frames), dtype=np.float32)
        ratio = 2.0 ** (rng.uniform(-2, 2) / 12.0)
        start = self._start(rng, source.frames, ratio)
        for place, name in enumerate(STEM_NAMES):
            if name in source.stems:
                stems[place] = excerpt(source.stems[name], start, self._frames, ratio)
        gains = 10.0 ** (rng.uniform(-3, 3, 4) / 20.0)
        if not source.complete:
            gains[1:] = gains[1]
        stems *= gains[:, None, None].astype(np.float32)
        if not source.complete:
            stems[3], stems[1:3] = stems[1:].sum(axis=0), 0.0
        return stems, source.complete, "vocals" in source.stems and bool(rng.random() < 0.7)

    def _remix(self, rng: Rng, kind: str) -> Audio:
        """Drums, bass and other of different songs; of the drawn kind or of any other that has them."""
        stems = np.zeros((4, 2, self._frames), dtype=np.float32)
        one_song = self._song(rng, kind) if kind == "sequenced" and rng.random() < 0.4 else None
        for place, name in enumerate(STEM_NAMES[1:], 1):
            source = one_song or self._source_with(rng, name, kind)
            if name == "bass" and rng.random() < FRESH_BASS:
                sound = bass_line(rng, self._frames)
            else:
                sound = self._audible(rng, source.stems[name], REMIX_SEMITONES[name])
            if name == "other" and rng.random() < SWEPT_OTHER:
                sound = swept(rng, sound)
            if name == "other" and rng.random() < PLACED_OTHER:
                sound = placed(rng, sound)
            stems[place] = levelled(sound, -21.0 + rng.uniform(*REMIX_GAIN_DB[name]))
        if lives_below_60_hz(stems[2]) and rng.random() < ROOM_FOR_BASS:
            stems[1] = without_lows(rng, stems[1])
        return stems

    def _source_with(self, rng: Rng, name: str, kind: str) -> StemSong:
        """A song whose stem `name` is surely clean: without bass, `other` may hold the bass."""
        if rng.random() < 0.35:
            kind = draw(rng, self._mix.accompaniments, [k for k in self._accompaniments if k != "background"])
        source = self._song(rng, kind)
        if source.complete or (name == "drums" and name in source.stems):
            return source
        complete = [s for s in self.sources.songs if s.complete]
        return complete[rng.integers(len(complete))] if complete else self._song(rng, "synthetic")

    def _fitting_voice(self, rng: Rng, accompaniment: Audio) -> Audio:
        """A voice, louder than the accompaniment by VOICE_DB."""
        reference = max(active_rms(accompaniment), 1e-3)
        voice = self._voice(rng)
        if rng.random() < OTHER_THROAT:
            voice = other_throat(rng, voice)
        if rng.random() < AIRY_VOICE:
            voice = airy(voice, rng.uniform(4, 16))
        if rng.random() < DOUBLED_VOICE:
            voice = doubled(rng, voice)
        return levelled(voice, 20.0 * np.log10(reference) + rng.uniform(*VOICE_DB))

    def _voice(self, rng: Rng) -> Audio:
        kind = draw(rng, self._mix.voices, self._voices)
        if kind == "recorded":
            return self._audible(rng, self._recorded_voices[rng.integers(len(self._recorded_voices))])
        if kind == "synthetic":
            return self._audible(rng, self._song(rng, "synthetic").stems["vocals"])
        return self._with_effects(rng, self._phrases(rng, getattr(self.sources, kind)))

    def _phrases(self, rng: Rng, recordings: list[Pcm]) -> Audio:
        """Recordings one after another with gaps, longer ones likelier; sometimes layered."""
        sound = np.zeros((2, self._frames), dtype=np.float32)
        seconds = np.array([r.shape[-1] for r in recordings], dtype=np.float64)
        ratio = 2.0 ** (rng.uniform(-4, 4) * (2.0 if rng.random() < FAR_PITCH else 1.0) / 12.0)
        at = int(rng.integers(-frames_of(1.0), frames_of(0.5)))
        while at < self._frames:
            pcm = recordings[int(rng.choice(len(recordings), p=seconds / seconds.sum()))]
            phrase = levelled(excerpt(pcm, 0, int(pcm.shape[-1] / ratio), ratio), -20.0 + rng.uniform(-3, 3))
            add_at(sound, at, phrase)
            at += int(phrase.shape[-1] * (0.6 if rng.random() < 0.15 else 1.0)) + frames_of(
                rng.uniform(0.0, 0.6)
            )
        return sound

    def _with_effects(self, rng: Rng, sound: Audio) -> Audio:
        if rng.random() < CHOPPED_VOICE:
            sound = chopped(rng, sound)
        if rng.random() < PRODUCED_VOICE:
            sound = produced(rng, sound)
        if rng.random() < 0.6:
            sound = random_eq(rng, sound, 6.0)
        if rng.random() < 0.25:
            sound = np.repeat(sound.mean(axis=0, keepdims=True), 2, axis=0)
        if rng.random() < 0.55:
            seconds = rng.uniform(2.0, 5.0) if rng.random() < LONG_ROOM else rng.uniform(0.3, 1.6)
            sound = reverberated(sound, room(rng, seconds), rng.uniform(0.03, 0.5))
        return sound
