"""Songs played by recorded one-shots: the composer's scores on sampled drums, basses and instruments.

Pitches and drums are read from file names (`gb3_ff.ogg`, `Ds2v8.ogg`, `bd_808.flac`, `Snare/Snare_30.flac`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.filters import RATE_HZ
from model.training.bands import amplified, bass_sound, part_sound
from model.training.drums import Kit, sequence, synthetic_kit
from model.training.recordings import Pcm, to_float
from model.training.score import Part, Score, compose
from model.training.songs import drum_track, ducked, ensemble, mixed
from model.training.synth import (
    Audio,
    Note,
    Rng,
    add_at,
    frames_of,
    panned,
    random_eq,
)

Bank = dict[int, list[Pcm]]
_NOTE = re.compile(r"(?:^|_)([a-g])(s|#|b)?(\d)(?=[_v]|$)", re.IGNORECASE)
_NAMED_NOTE = re.compile(r"_([a-g])(s|#|b)?$", re.IGNORECASE)
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_DRUMS = (
    ("kick", r"\bbd|_bd|kdrum|kick|drum_bass"),
    ("snare", r"snare|\bsn_|_sd|_cp|clap|_rim"),
    ("open_hat", r"hihatopen|cymbal_open|_oh_|_oh\b"),
    ("hat", r"hat|_hh|cymbal_closed|cymbal_pedal|_sh_"),
    ("crash", r"crash|china|splash|cymbal|ride|_cr_|_rd_"),
    ("tom", r"tom|tabla|_[hlm]t_"),
)
_LONGEST_ONE_SHOT_S = 4.5
_NEEDED_DRUMS = ("kick", "snare", "hat")
_FEWEST_PITCHES = 5


def pitch_of(path: Path) -> int | None:
    """MIDI pitch named in a file name, C4 = 60; a note without octave counts as a bass's second octave."""
    name = path.stem
    found = _NOTE.search(name)
    octave = int(found.group(3)) if found else 2
    found = found or _NAMED_NOTE.search(name)
    if found is None:
        return None
    step = _STEPS[found.group(1).lower()] + {"s": 1, "#": 1, "b": -1}.get((found.group(2) or "").lower(), 0)
    return 12 * (octave + 1) + step


def drum_of(path: Path) -> str | None:
    """Which drum of a kit a file holds, by its name."""
    name = f"{path.parent.name}/{path.stem}".lower()
    return next((drum for drum, pattern in _DRUMS if re.search(pattern, name)), None)


@dataclass
class Instruments:
    """One-shots by use: kits by folder, pitched banks by folder, drum loops; and what could not be used."""

    kits: list[dict[str, list[Pcm]]] = field(default_factory=list)
    basses: list[Bank] = field(default_factory=list)
    others: list[Bank] = field(default_factory=list)
    loops: list[Pcm] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def instruments(one_shots: dict[Path, Pcm]) -> Instruments:
    """Sort one-shots by folder and name."""
    kits: dict[str, dict[str, list[Pcm]]] = {}
    banks: dict[tuple[str, str], Bank] = {}
    result = Instruments()
    for path, pcm in one_shots.items():
        category, folder = path.parts[0], "/".join(path.parts[:2])
        drum, pitch = drum_of(path), pitch_of(path)
        if category == "drums" and pcm.shape[-1] > frames_of(_LONGEST_ONE_SHOT_S):
            result.loops.append(pcm)
        elif category == "drums" and drum is not None:
            kits.setdefault(folder, {}).setdefault(drum, []).append(pcm)
        elif category != "drums" and pitch is not None:
            banks.setdefault((category, folder), {}).setdefault(pitch, []).append(pcm)
        else:
            result.left_out.append(f"{path}: no drum or pitch in its name; not used")
    for folder, kit in kits.items():
        if lacking := [drum for drum in _NEEDED_DRUMS if drum not in kit]:
            result.left_out.append(f"{folder}: a kit without {', '.join(lacking)}; not used")
        else:
            result.kits.append(kit)
    for (category, folder), bank in banks.items():
        if len(bank) < _FEWEST_PITCHES:
            result.left_out.append(
                f"{folder}: has {len(bank)} of at least {_FEWEST_PITCHES} pitches; not used"
            )
        else:
            (result.basses if category == "bass" else result.others).append(bank)
    return result


def resampled(sound: Audio, ratio: float) -> Audio:
    """Sound [channels, n] read `ratio` times faster, linearly interpolated."""
    at = np.arange(int((sound.shape[-1] - 1) / ratio) + 1) * ratio
    grid = np.arange(sound.shape[-1])
    return np.stack([np.interp(at, grid, channel) for channel in sound]).astype(np.float32)


def _sampled_note(rng: Rng, bank: Bank, note: Note) -> Audio:
    nearest = min(bank, key=lambda pitch: abs(pitch - note.pitch))
    takes = bank[nearest]
    ratio = 2.0 ** ((note.pitch - nearest) / 12.0)
    release_s = 0.08
    needed = frames_of((note.length_s + release_s) * ratio) + 2
    sound = resampled(to_float(takes[rng.integers(len(takes))][:, :needed]), ratio)
    t = np.arange(sound.shape[-1]) / RATE_HZ
    fall = np.clip((note.length_s + release_s - t) / release_s, 0.0, 1.0)
    return sound * (note.velocity * fall).astype(np.float32)


def play_samples(rng: Rng, bank: Bank, notes: list[Note], frames: int) -> Audio:
    """All notes of a part on a bank, moved by octaves into the bank's range: [2, frames]."""
    sound = np.zeros((2, frames), dtype=np.float32)
    low, high = min(bank) - 3, max(bank) + 3
    pan = panned(np.ones(1, dtype=np.float32), rng.uniform(-0.6, 0.6)) * np.float32(2**0.5)
    for note in notes:
        pitch = note.pitch
        pitch += 12 * max(0, int(np.ceil((low - pitch) / 12))) - 12 * max(
            0, int(np.ceil((pitch - high) / 12))
        )
        played = _sampled_note(rng, bank, Note(note.start_s, note.length_s, pitch, note.velocity))
        add_at(sound, frames_of(note.start_s), played * pan)
    return sound


def _sampled_kit(rng: Rng, kits: list[dict[str, list[Pcm]]]) -> Kit:
    """One or a few takes per drum of one folder, at unit peak; a synthetic kit fills what is missing."""
    source = kits[rng.integers(len(kits))]
    kit = synthetic_kit(rng)
    for drum, takes in source.items():
        chosen = [
            to_float(takes[i]) for i in rng.integers(len(takes), size=2 if drum in ("hat", "tom") else 1)
        ]
        kit[drum] = [take / max(float(np.abs(take).max()), 1e-4) for take in chosen]
    return kit


def _drums(rng: Rng, sampled: Instruments, score: Score, frames: int) -> Audio:
    if sampled.loops and rng.random() < 0.15:
        loop = to_float(sampled.loops[rng.integers(len(sampled.loops))])
        return np.tile(loop, -(-frames // loop.shape[-1]))[:, :frames]
    kit = _sampled_kit(rng, sampled.kits) if sampled.kits and rng.random() < 0.85 else synthetic_kit(rng)
    return sequence(rng, kit, score.hits, frames)


def _bass(rng: Rng, sampled: Instruments, score: Score, frames: int) -> Audio:
    if not sampled.basses or rng.random() < 0.25:
        return bass_sound(rng, score.bass, frames)
    return play_samples(rng, sampled.basses[rng.integers(len(sampled.basses))], score.bass, frames)


def _part(rng: Rng, sampled: Instruments, part: Part, frames: int) -> Audio:
    if not sampled.others or rng.random() < 0.3:
        return part_sound(rng, part.kind, part.notes, frames)
    sound = play_samples(rng, sampled.others[rng.integers(len(sampled.others))], part.notes, frames)
    return amplified(rng, sound) if part.kind == "power" else sound


def sequenced_song(sampled: Instruments, seed: int, index: int, seconds: float) -> Audio:
    """A song without vocals on sampled instruments: [4, 2, frames], fixed by samples and seed."""
    rng = np.random.default_rng((seed, index, 1))
    score, frames = compose(rng, seconds), frames_of(seconds)
    stems = [
        np.zeros((2, frames), dtype=np.float32),
        drum_track(rng, _drums(rng, sampled, score, frames)),
        random_eq(rng, _bass(rng, sampled, score, frames), 3.0),
        ensemble(rng, score.parts, lambda part: _part(rng, sampled, part, frames), frames),
    ]
    return mixed(rng, ducked(rng, stems, score))
