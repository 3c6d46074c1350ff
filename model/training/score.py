"""Composes short songs: tempo, chords, drums, bass line, accompanying parts and a sung melody."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from model.training.drums import STYLES, Hit, drum_bar
from model.training.synth import Note, Rng

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
_PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 0, 4),
    (0, 6, 5, 4),
    (1, 4, 0, 0),
    (0, 2, 3, 4),
    (0, 0, 3, 4),
)
_BASS_STEPS = (
    "x.x.x.x.x.x.x.x.",
    "x...............",
    "x.....x...x.....",
    "x...x...x...x...",
    "..x...x...x...x.",
    "x..x..x.x..x..x.",
)
_PART_STEPS = (
    "x...............",
    "x.......x.......",
    "..x...x...x...x.",
    "x.x.x.x.x.x.x.x.",
    "xxxxxxxxxxxxxxxx",
    "x..x..x...x..x..",
)
_PART_KINDS = ("chords", "arpeggio", "lead", "strum", "pad", "power")
_REGISTERS = {"pad": (48, 60), "power": (36, 48, 48)}
_VOICINGS = {"power": (0, 4, 7)}
VOICE_ALONE = 0.06


@dataclass(frozen=True)
class Part:
    """One accompanying part: how it is played and its notes."""

    kind: str
    notes: list[Note]


@dataclass
class Score:
    """A song on paper. Times in seconds."""

    tempo_bpm: float
    seconds: float
    hits: list[Hit] = field(default_factory=list)
    bass: list[Note] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    melody: list[Note] = field(default_factory=list)

    @property
    def step_s(self) -> float:
        """Length of a sixteenth."""
        return 15.0 / self.tempo_bpm


def degree_pitch(scale: tuple[int, ...], tonic: int, degree: int) -> int:
    """MIDI pitch of a scale degree, counted from the tonic, any octave."""
    octave, step = divmod(degree, len(scale))
    return tonic + 12 * octave + scale[step]


def _bass_bar(rng: Rng, score: Score, steps: str, start_s: float, root: int) -> list[Note]:
    places = [i for i, mark in enumerate(steps) if mark == "x"]
    notes = []
    for place, following in zip(places, [*places[1:], 16], strict=True):
        jump = rng.choice([0, 0, 0, 0, 12, 7])
        length_s = (following - place) * score.step_s * rng.choice([0.6, 0.95])
        notes.append(Note(start_s + place * score.step_s, length_s, root + jump, rng.uniform(0.7, 1.0)))
    return notes


def _chord_bar(rng: Rng, score: Score, part: str, steps: str, start_s: float, chord: list[int]) -> list[Note]:
    """Block chords, or broken ones for arpeggios and leads."""
    places = [i for i, mark in enumerate(steps) if mark == "x"]
    notes = []
    for count, (place, following) in enumerate(zip(places, [*places[1:], 16], strict=True)):
        at_s, length_s = start_s + place * score.step_s, (following - place) * score.step_s * 0.95
        if part == "arpeggio":
            pitches = [chord[count % len(chord)] + 12 * (count // len(chord) % 2)]
        elif part == "lead":
            pitches = [int(rng.choice(chord)) + 12]
        else:
            pitches = chord
        strum_s = 0.012 if part == "strum" else 0.0
        notes += [
            Note(at_s + i * strum_s, length_s, p, rng.uniform(0.55, 0.95)) for i, p in enumerate(pitches)
        ]
    return notes


def _melody_bars(
    rng: Rng, score: Score, start_s: float, bars: int, scale: tuple[int, ...], tonic: int
) -> list[Note]:
    """A walk on the scale in phrases, each followed by a rest."""
    notes, at, degree = [], 0.0, int(rng.integers(-2, 5))
    while at < 16 * bars - 2:
        phrase_end = min(at + rng.choice([10, 14, 24]), 16 * bars - 1)
        while at < phrase_end:
            length = float(min(rng.choice([1, 2, 2, 2, 4, 4, 6, 8]), phrase_end - at))
            velocity = rng.uniform(0.6, 1.0)
            notes.append(
                Note(
                    start_s + at * score.step_s,
                    length * score.step_s * 0.96,
                    degree_pitch(scale, tonic, degree),
                    velocity,
                )
            )
            at += length
            degree = int(np.clip(degree + rng.choice([-2, -1, -1, 0, 1, 1, 2, 4, -4]), -4, 8))
        at += float(rng.choice([2, 4, 8]))
    return notes


@dataclass(frozen=True)
class _Plan:
    """What all sections of a song share."""

    scale: tuple[int, ...]
    tonic: int
    voice_tonic: int
    chords: tuple[int, ...]
    style: str
    bass_steps: str
    steps: dict[str, str]
    registers: dict[str, int]


def _plan(rng: Rng) -> _Plan:
    kinds = [str(k) for k in rng.choice(_PART_KINDS, rng.integers(2, 5), replace=False)]
    tonic = int(rng.integers(-5, 7))
    return _Plan(
        scale=MINOR if rng.random() < 0.5 else MAJOR,
        tonic=tonic,
        voice_tonic=int(rng.choice([48, 60, 60])) + tonic,
        chords=_PROGRESSIONS[rng.integers(len(_PROGRESSIONS))],
        style=str(rng.choice(STYLES)),
        bass_steps=str(rng.choice(_BASS_STEPS)),
        steps={k: _PART_STEPS[0 if k == "pad" else rng.integers(len(_PART_STEPS))] for k in kinds},
        registers={k: int(rng.choice(_REGISTERS.get(k, (48, 60, 72)))) for k in kinds},
    )


def _accompany(rng: Rng, score: Score, plan: _Plan, section: int, parts: dict[str, list[Note]]) -> None:
    """Four bars of drums, bass and parts; each of them rests in some sections."""
    has_drums, has_bass = rng.random() < 0.9, rng.random() < 0.9
    playing = [kind for kind in plan.steps if rng.random() < 0.8]
    bar_s = 16 * score.step_s
    for bar, degree in enumerate(plan.chords):
        at_s = (4 * section + bar) * bar_s
        root = degree_pitch(plan.scale, 36 + plan.tonic, degree)
        if has_drums:
            score.hits += drum_bar(rng, plan.style, at_s, score.step_s, bar == 3 and rng.random() < 0.5)
            score.hits += [Hit(at_s, "crash", 0.8)] if bar == 0 and rng.random() < 0.5 else []
        if has_bass:
            score.bass += _bass_bar(rng, score, plan.bass_steps, at_s, root - 12 * (root > 41))
        for kind in playing:
            tonic = plan.registers[kind] + plan.tonic
            chord = [degree_pitch(plan.scale, tonic, degree + d) for d in _VOICINGS.get(kind, (0, 2, 4))]
            parts[kind] += _chord_bar(rng, score, kind, plan.steps[kind], at_s, chord)


def compose(rng: Rng, seconds: float, sung: float = 0.75) -> Score:
    """A song of at least `seconds`, in sections of four bars.

    `sung` is the chance that a section is sung; a few sections are nothing but the voice.
    """
    score, plan = Score(tempo_bpm=rng.uniform(72, 150), seconds=seconds), _plan(rng)
    parts: dict[str, list[Note]] = {kind: [] for kind in plan.steps}
    section_s = 64 * score.step_s
    for section in range(int(np.ceil(seconds / section_s))):
        alone = sung > 0.0 and rng.random() < VOICE_ALONE
        if not alone:
            _accompany(rng, score, plan, section, parts)
        if alone or rng.random() < sung:
            score.melody += _melody_bars(rng, score, section * section_s, 4, plan.scale, plan.voice_tonic)
    score.parts = [Part(kind, notes) for kind, notes in parts.items()]
    return score
