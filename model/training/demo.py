"""The bundled demo song: written by hand, played by the song generator, about 21 seconds.

`write_demo(folder)` makes vocals.ogg, drums.ogg, bass.ogg and other.ogg again; the mix is their sum.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.filters import RATE_HZ, band
from model.training.drums import Hit, sequence, synthetic_kit
from model.training.singing import Syllable, Voice, sing
from model.training.songs import STEM_NAMES, drum_track, under_ceiling
from model.training.synth import (
    Audio,
    Note,
    Patch,
    compressed,
    echoed,
    frames_of,
    levelled,
    panned,
    play,
    reverberated,
    room,
)

TEMPO_BPM = 96.0
BARS = 8
_BEAT_S = 60.0 / TEMPO_BPM
_SECONDS = BARS * 4 * _BEAT_S + 1.0
_CHORDS = ((57, 60, 64), (53, 57, 60), (55, 60, 64), (55, 59, 62)) * 2  # Am F C G, twice
_ROOTS = (33, 29, 36, 31) * 2

# beat within the song, length in beats, pitch, consonant, vowel, vowel it glides to
_MELODY = (
    (8.0, 1.0, 67, "s", "o", "o"), (9.0, 0.5, 69, "l", "o", "o"), (9.5, 1.4, 67, "", "i", "i"),
    (11.0, 0.5, 64, "m", "e", "i"), (11.5, 0.5, 62, "t", "u", "u"),
    (12.0, 2.0, 64, "l", "a", "a"), (14.0, 0.5, 62, "", "a", "i"), (14.5, 1.2, 60, "s", "i", "i"),
    (16.5, 0.5, 64, "", "a", "i"), (17.0, 0.5, 67, "sh", "i", "i"), (17.5, 1.0, 69, "", "a", "i"),
    (18.5, 0.5, 72, "f", "o", "o"), (19.0, 1.0, 71, "l", "o", "u"),
    (20.0, 1.5, 69, "", "e", "e"), (21.5, 0.5, 67, "t", "o", "o"), (22.0, 1.5, 69, "m", "i", "i"),
    (24.0, 0.5, 72, "", "o", "o"), (24.5, 0.5, 71, "", "e", "e"), (25.0, 1.0, 69, "k", "a", "a"),
    (26.0, 0.5, 67, "l", "i", "i"), (26.5, 1.2, 64, "", "o", "u"),
    (28.0, 0.5, 62, "s", "a", "i"), (28.5, 0.5, 64, "", "u", "u"), (29.0, 2.4, 60, "h", "o", "o"),
)  # fmt: skip


def _note(beat: float, beats: float, pitch: float, velocity: float) -> Note:
    return Note(beat * _BEAT_S, beats * _BEAT_S, pitch, velocity)


def _vocals(rng: np.random.Generator, frames: int) -> Audio:
    """A lead voice, and a quiet third above it in the second half, with echo and a hall."""
    notes = [_note(at, length * 0.97, pitch, 0.85) for at, length, pitch, *_ in _MELODY]
    words = [Syllable(*word) for _, _, _, *word in _MELODY]
    lead = Voice(
        size=1.12,
        tilt=1.1,
        breath=0.035,
        vibrato_cents=38.0,
        vibrato_hz=5.4,
        glide_s=0.08,
        scoop_semitones=0.6,
    )
    sound = panned(sing(rng, lead, notes, words, frames), 0.0)
    harmony = [n for n in notes if n.start_s >= 20 * _BEAT_S]
    above = [
        Note(n.start_s + 0.015, n.length_s, n.pitch - 5.0 + (n.pitch in (62, 69, 71)), 0.5) for n in harmony
    ]
    second = Voice(size=1.05, tilt=1.3, breath=0.06, vibrato_cents=30.0, vibrato_hz=5.0)
    sound += 0.3 * panned(sing(rng, second, above, words[-len(above) :], frames), -0.5)
    sound = compressed(levelled(band(sound, 110.0, 15_000.0), -18.0), -24.0, 2.5)
    sound = echoed(sound, 0.75 * _BEAT_S, 0.3, 0.14)
    return reverberated(sound, room(rng, 1.6), 0.1)


def _drums(rng: np.random.Generator, frames: int) -> Audio:
    """Hats alone at first, the full kit from bar 2, a fill into the verse, a crash at the end."""
    hits = [Hit(s * _BEAT_S / 2, "hat", 0.9 if s % 2 == 0 else 0.6) for s in range(8 * BARS)]
    for bar in range(1, BARS):
        kicks, snares = (0.0, 1.5, 2.5) if bar % 2 else (0.0, 2.0, 2.5), (1.0, 3.0)
        hits += [Hit((4 * bar + b) * _BEAT_S, "kick", 0.95) for b in kicks]
        hits += [Hit((4 * bar + b) * _BEAT_S, "snare", 0.9) for b in snares]
        hits.append(Hit((4 * bar + 3.5) * _BEAT_S, "open_hat", 0.7))
    hits += [Hit((7 + s / 4) * _BEAT_S, "tom" if s > 1 else "snare", 0.6 + 0.1 * s) for s in range(1, 4)]
    hits += [Hit(b * _BEAT_S, "crash", 0.8) for b in (8.0, 4.0 * BARS)]
    hits.append(Hit(4.0 * BARS * _BEAT_S, "kick", 1.0))
    return drum_track(rng, sequence(rng, synthetic_kit(rng), hits, frames))


def _bass(rng: np.random.Generator, frames: int) -> Audio:
    patch = Patch(
        slope=1.2, cutoff_hz=420.0, brightness=2.5, bright_s=0.12, decay_s=1.6, release_s=0.06, width=0.0
    )
    notes = []
    for bar, root in enumerate(_ROOTS[1:BARS], 1):
        line = ((0.0, 1.4, 0), (1.5, 0.9, 0), (2.5, 0.45, 12), (3.0, 0.45, 7), (3.5, 0.45, 12))
        notes += [_note(4 * bar + at, length, root + up, 0.9) for at, length, up in line]
    notes.append(_note(4 * BARS, 1.2, 33, 0.9))
    return play(rng, patch, notes, frames)


def _other(rng: np.random.Generator, frames: int) -> Audio:
    """A warm pad, an electric piano and a plucked arpeggio."""
    pad = Patch(
        slope=1.1,
        cutoff_hz=1100.0,
        brightness=1.0,
        attack_s=0.25,
        decay_s=20.0,
        release_s=0.6,
        voices=3,
        detune_cents=9,
        width=0.9,
    )
    piano = Patch(
        slope=1.6,
        cutoff_hz=1500.0,
        brightness=3.0,
        bright_s=0.15,
        even=0.5,
        decay_s=1.2,
        release_s=0.2,
        width=0.3,
    )
    pluck = Patch(
        slope=0.9, cutoff_hz=1300.0, brightness=4.0, bright_s=0.05, decay_s=0.35, release_s=0.15, width=0.7
    )
    chords = [*enumerate(_CHORDS[:BARS]), (BARS, (57, 60, 64))]
    pads = [_note(4 * bar, 4.0 if bar < BARS else 1.0, p, 0.7) for bar, chord in chords for p in chord]
    stabs = [
        _note(4 * bar + b, 1.2, p + 12, 0.7)
        for bar, chord in chords[:BARS]
        for b in (0.0, 1.5, 3.0)
        for p in chord
    ]
    order = (0, 1, 2, 1, 0, 2, 1, 2)
    steps = [
        _note(4 * bar + s / 2, 0.45, chord[i] + 12 + 12 * (s % 4 == 2), 0.6 + 0.2 * (s % 2 == 0))
        for bar, chord in chords[:BARS]
        for s, i in enumerate(order)
    ]
    parts = ((pad, pads, -25.0), (piano, stabs, -22.0), (pluck, steps, -24.0))
    sound = sum(levelled(play(rng, patch, notes, frames), level) for patch, notes, level in parts)
    return reverberated(np.asarray(sound, dtype=np.float32), room(rng, 1.4), 0.1)


def demo_song() -> Audio:
    """The demo song as stems [4, 2, frames] at 44.1 kHz, the sum at most -1.5 dBFS."""
    rng = np.random.default_rng(20)
    frames = frames_of(_SECONDS)
    levels = {"vocals": -18.5, "drums": -19.5, "bass": -21.5, "other": -21.5}
    makers = {"vocals": _vocals, "drums": _drums, "bass": _bass, "other": _other}
    stems = np.stack([levelled(makers[name](rng, frames), levels[name]) for name in STEM_NAMES])
    fade = np.clip((frames - np.arange(frames)) / frames_of(0.4), 0.0, 1.0).astype(np.float32)
    return under_ceiling(stems * fade, -1.5)


def write_demo(folder: Path) -> None:
    """Write the four stems as Ogg Vorbis into `folder`; where a file cannot be written, OSError."""
    from pedalboard.io import AudioFile

    folder.mkdir(parents=True, exist_ok=True)
    for name, stem in zip(STEM_NAMES, demo_song(), strict=True):
        with AudioFile(
            str(folder / f"{name}.ogg"), "w", samplerate=RATE_HZ, num_channels=2, quality="160 kbps"
        ) as file:
            file.write(stem)
