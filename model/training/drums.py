"""Drums of the song generator: a synthesised kit, and a sequencer that also plays recorded one-shots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.filters import RATE_HZ, band
from model.training.synth import (
    Audio,
    Rng,
    add_at,
    driven,
    frames_of,
    noise,
    panned,
)

Kit = dict[str, list[Audio]]


@dataclass(frozen=True)
class Hit:
    """One stroke: when, on what (a key of the kit), how hard (0..1)."""

    start_s: float
    drum: str
    velocity: float


def _decay(frames: int, seconds: float) -> Audio:
    return np.asarray(np.exp(-np.arange(frames, dtype=np.float32) / (seconds * RATE_HZ)), dtype=np.float32)


def _sweep(frames: int, from_hz: float, to_hz: float, seconds: float) -> Audio:
    hz = to_hz + (from_hz - to_hz) * _decay(frames, seconds)
    return np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ).astype(np.float32)


def kick(rng: Rng) -> Audio:
    """A sine that falls to 40-65 Hz, with a click: [2, frames]."""
    frames = frames_of(0.6)
    body = _sweep(frames, rng.uniform(120, 380), rng.uniform(40, 65), rng.uniform(0.015, 0.06))
    body *= _decay(frames, rng.uniform(0.07, 0.25))
    click = band(noise(rng, frames), 1500.0, 9000.0)[0] * _decay(frames, 0.004)
    return panned(driven(body + rng.uniform(0.05, 0.4) * click, rng.uniform(0.5, 3.0)), 0.0)


def snare(rng: Rng) -> Audio:
    """Two shell modes and a burst of wires: [2, frames]."""
    frames = frames_of(0.5)
    tune = rng.uniform(150, 230)
    shell = _sweep(frames, tune * 1.5, tune, 0.02) + 0.5 * _sweep(frames, tune * 2.4, tune * 1.8, 0.01)
    wires = band(noise(rng, frames, 2), rng.uniform(500, 1800), rng.uniform(8000, 15_000))
    mono = panned(shell * _decay(frames, rng.uniform(0.03, 0.09)), 0.0)
    return mono * rng.uniform(0.3, 1.0) + wires * _decay(frames, rng.uniform(0.05, 0.16)) * rng.uniform(
        0.3, 0.7
    )


def clap(rng: Rng) -> Audio:
    """Four bursts of narrow noise: [2, frames]."""
    frames = frames_of(0.4)
    sound = np.zeros((2, frames), dtype=np.float32)
    burst = band(noise(rng, frames, 2), rng.uniform(700, 1100), rng.uniform(3000, 7000))
    for i in range(3):
        add_at(sound, frames_of(0.011 * i), burst * _decay(frames, 0.006))
    add_at(sound, frames_of(0.033), burst * _decay(frames, rng.uniform(0.04, 0.12)))
    return sound


def cymbal(rng: Rng, seconds: float) -> Audio:
    """Noise and clashing partials above 4 kHz: hi-hats, rides and crashes by length."""
    frames = frames_of(min(2.5, 6 * seconds))
    sizzle = band(noise(rng, frames, 2), rng.uniform(3500, 7500), 16_000.0)
    t = np.arange(frames) / RATE_HZ
    ring = sum(np.sign(np.sin(2 * np.pi * f * t)) for f in rng.uniform(400, 1100, 5))
    metal = panned(
        band(np.asarray(ring, dtype=np.float32)[None], 5000.0, 15_000.0)[0], rng.uniform(-0.3, 0.3)
    )
    return (sizzle + rng.uniform(0.2, 1.0) * metal) * _decay(frames, seconds)


def tom(rng: Rng, tune_hz: float) -> Audio:
    """A falling sine with a little skin noise: [2, frames]."""
    frames = frames_of(0.8)
    body = _sweep(frames, tune_hz * 1.6, tune_hz, 0.05) * _decay(frames, 0.18)
    skin = band(noise(rng, frames), 300.0, 3000.0)[0] * _decay(frames, 0.02)
    return panned(body + 0.15 * skin, rng.uniform(-0.7, 0.7))


def synthetic_kit(rng: Rng) -> Kit:
    """A kit with two takes of what is struck most, every drum at unit peak."""
    kit: Kit = {
        "kick": [kick(rng)],
        "snare": [snare(rng)] if rng.random() < 0.65 else [clap(rng)],
        "hat": [cymbal(rng, s) for s in rng.uniform(0.015, 0.06, 2)],
        "open_hat": [cymbal(rng, rng.uniform(0.12, 0.35))],
        "crash": [cymbal(rng, rng.uniform(0.4, 0.9))],
        "tom": [tom(rng, f) for f in rng.uniform(70, 180, 2)],
    }
    return {name: [take / np.abs(take).max() for take in takes] for name, takes in kit.items()}


_LEVELS = {"kick": 1.0, "snare": 0.75, "hat": 0.3, "open_hat": 0.33, "crash": 0.4, "tom": 0.6}


def sequence(rng: Rng, kit: Kit, hits: list[Hit], frames: int) -> Audio:
    """Hits played on a kit: [2, frames]. Drums that the kit lacks stay silent."""
    sound = np.zeros((2, frames), dtype=np.float32)
    for hit in hits:
        takes = kit.get(hit.drum, [])
        if takes:
            take = takes[rng.integers(len(takes))]
            add_at(sound, frames_of(hit.start_s), take * np.float32(hit.velocity * _LEVELS[hit.drum]))
    return sound


_PATTERNS = {
    "floor": {"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "..x...x...x...x."},
    "rock": {"kick": "x.......x.x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
    "break": {"kick": "x.x.......x..x..", "snare": "....x..x.x..x..x", "hat": "x.x.x.x.x.x.x.x."},
    "half": {"kick": "x.....x.....x...", "snare": "........x.......", "hat": "x.x.x.x.x.x.x.xx"},
    "ballad": {"kick": "x.........x.....", "snare": "....x.......x...", "hat": "x...x...x...x..."},
    "busy": {"kick": "x..x..x...x..x..", "snare": "....x.......x..x", "hat": "xxxxxxxxxxxxxxxx"},
}
STYLES = tuple(_PATTERNS)


def drum_bar(rng: Rng, style: str, start_s: float, step_s: float, fill: bool) -> list[Hit]:
    """One 4/4 bar of sixteenth steps with human velocities; `fill` makes its last beat toms and snare."""
    hits = []
    for drum, steps in _PATTERNS[style].items():
        for step, mark in enumerate(steps):
            if mark != "x" or (fill and step >= 12):
                continue
            accent = 1.0 if step % 4 == 0 else 0.75
            name = "open_hat" if drum == "hat" and step == 14 and rng.random() < 0.4 else drum
            hits.append(
                Hit(
                    start_s + step * step_s + abs(rng.normal(0, 0.003)), name, accent * rng.uniform(0.75, 1.0)
                )
            )
    if fill:
        hits += [
            Hit(start_s + s * step_s, "tom" if s % 2 else "snare", rng.uniform(0.6, 1.0))
            for s in range(12, 16)
        ]
    return hits
