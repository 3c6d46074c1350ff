"""Building blocks of the song generator: tones, shaped noise, equaliser, reverb, compressor.

Everything is plain NumPy on float32 arrays at 44.1 kHz, and every random choice comes from the
generator that the caller passes, so a seed fixes the sound to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.filters import RATE_HZ, band, fft_frames, filtered

Audio = NDArray[np.float32]
Rng = np.random.Generator

_TABLE_FRAMES = 2048
_HIGHEST_PARTIAL_HZ = 17_000.0


@dataclass(frozen=True)
class Note:
    """One note: start and length in seconds, MIDI pitch, velocity 0..1."""

    start_s: float
    length_s: float
    pitch: float
    velocity: float = 0.8


@dataclass(frozen=True)
class Patch:
    """One instrument: its spectrum, its envelope and how many detuned voices play a note.

    `slope`: harmonic k has the amplitude k ** -slope. `cutoff_hz`: low-pass of the steady part;
    the onset is `brightness` times brighter for `bright_s` seconds. `even`: level of even harmonics.
    `plucked_at`: where along a string it is plucked, 0 for no string.
    """

    slope: float = 1.0
    cutoff_hz: float = 2000.0
    brightness: float = 3.0
    bright_s: float = 0.1
    even: float = 1.0
    plucked_at: float = 0.0
    attack_s: float = 0.005
    decay_s: float = 1.0
    release_s: float = 0.08
    voices: int = 1
    detune_cents: float = 0.0
    vibrato_cents: float = 0.0
    width: float = 0.3


def frames_of(seconds: float) -> int:
    """Seconds as a whole number of frames."""
    return round(seconds * RATE_HZ)


def hz_of(pitch: float) -> float:
    """MIDI pitch to frequency, A4 = 440 Hz."""
    return float(440.0 * 2.0 ** ((pitch - 69.0) / 12.0))


def add_at(target: Audio, start: int, sound: Audio) -> None:
    """Add `sound` [channels, n] to `target` [channels, frames] at frame `start`, cut at both ends."""
    skip = max(0, -start)
    stop = min(target.shape[-1], start + sound.shape[-1])
    if stop > start + skip:
        target[:, start + skip : stop] += sound[:, skip : stop - start]


def partials(frequency_hz: float, patch: Patch, cutoff_hz: float) -> NDArray[np.float64]:
    """Harmonic amplitudes [n] below 17 kHz, low-passed at `cutoff_hz` with 12 dB per octave."""
    count = int(np.clip(_HIGHEST_PARTIAL_HZ / frequency_hz, 1, 256))
    k = np.arange(1, count + 1)
    amplitude = k**-patch.slope / (1.0 + (k * frequency_hz / cutoff_hz) ** 2)
    amplitude[1::2] *= patch.even
    if patch.plucked_at:
        amplitude *= np.abs(np.sin(np.pi * k * patch.plucked_at))
    return np.asarray(amplitude)


def wavetable(amplitudes: NDArray[np.float64]) -> Audio:
    """One period of a harmonic tone, closed for interpolation: [2049]."""
    spectrum = np.zeros(_TABLE_FRAMES // 2 + 1, dtype=np.complex128)
    spectrum[1 : len(amplitudes) + 1] = -0.5j * _TABLE_FRAMES * amplitudes
    period = np.fft.irfft(spectrum)
    return np.append(period, period[0]).astype(np.float32)


def phase_of(
    frequency_hz: NDArray[np.float64] | float, frames: int, start: float = 0.0
) -> NDArray[np.float64]:
    """Phase in periods, 0..1, of a tone with the given frequency per frame."""
    steps = np.broadcast_to(np.asarray(frequency_hz) / RATE_HZ, (frames,))
    return (start + np.cumsum(steps)) % 1.0


def read_table(table: Audio, phase: NDArray[np.float64]) -> Audio:
    """The wavetable at the given phases, linearly interpolated."""
    position = phase * _TABLE_FRAMES
    index = position.astype(np.int32)
    fraction = (position - index).astype(np.float32)
    low = table[index]
    return low + fraction * (table[index + 1] - low)


def envelope(frames: int, patch: Patch, length_s: float) -> Audio:
    """Attack, exponential decay and release of one note."""
    t = np.arange(frames, dtype=np.float32) / RATE_HZ
    rise = np.minimum(t / max(patch.attack_s, 1e-3), 1.0)
    fall = np.clip((length_s + patch.release_s - t) / patch.release_s, 0.0, 1.0)
    return (rise * fall * np.exp(-t / patch.decay_s)).astype(np.float32)


def play_note(rng: Rng, patch: Patch, note: Note) -> Audio:
    """One note as [2, frames]."""
    frames = frames_of(note.length_s + patch.release_s)
    base_hz = hz_of(note.pitch)
    cutoff_hz = patch.cutoff_hz * (0.5 + note.velocity)
    steady = wavetable(partials(base_hz, patch, cutoff_hz))
    onset = wavetable(partials(base_hz, patch, cutoff_hz * patch.brightness)) - steady
    t = np.arange(frames) / RATE_HZ
    bright = np.exp(-t / patch.bright_s).astype(np.float32)
    wobble = patch.vibrato_cents * np.sin(2 * np.pi * (5.3 * t + rng.random())) * np.minimum(t / 0.3, 1.0)
    sound = np.zeros((2, frames), dtype=np.float32)
    for cents in np.linspace(-patch.detune_cents, patch.detune_cents, patch.voices):
        hz = base_hz * 2.0 ** ((cents + rng.normal(0, 1.5) + wobble) / 1200.0)
        phase = phase_of(hz, frames, rng.random())
        sound += panned(
            read_table(steady, phase) + bright * read_table(onset, phase), rng.uniform(-1, 1) * patch.width
        )
    return sound * envelope(frames, patch, note.length_s) * np.float32(note.velocity / patch.voices)


def play(rng: Rng, patch: Patch, notes: list[Note], frames: int) -> Audio:
    """All notes of one part as [2, frames]."""
    sound = np.zeros((2, frames), dtype=np.float32)
    for note in notes:
        add_at(sound, frames_of(note.start_s), play_note(rng, patch, note))
    return sound


def brighter(patch: Patch, factor: float) -> Patch:
    """The same instrument with another cutoff."""
    return replace(patch, cutoff_hz=patch.cutoff_hz * factor)


def panned(mono: Audio, position: float) -> Audio:
    """Mono [frames] to stereo [2, frames]; position -1 left .. 1 right, constant power."""
    angle = (position + 1.0) * np.pi / 4.0
    return np.stack([mono * np.float32(np.cos(angle)), mono * np.float32(np.sin(angle))])


def noise(rng: Rng, frames: int, channels: int = 1) -> Audio:
    """White noise [channels, frames], standard deviation 1."""
    return rng.standard_normal((channels, frames), dtype=np.float32)


def random_eq(rng: Rng, sound: Audio, depth_db: float) -> Audio:
    """A smooth random equaliser of up to `depth_db` at seven knots."""
    knots = np.array([40.0, 120.0, 350.0, 1000.0, 3000.0, 7000.0, 15_000.0])
    return filtered(sound, 10.0 ** (rng.uniform(-depth_db, depth_db, len(knots)) / 20.0), knots)


def room(rng: Rng, seconds: float) -> Audio:
    """A reverb tail [2, frames] of unit energy: decaying noise, darker as it decays, 10 ms pre-delay."""
    frames = frames_of(seconds)
    t = np.arange(frames, dtype=np.float32) / RATE_HZ
    tail = noise(rng, frames, 2)
    dark = band(tail, 120.0, 2500.0) * np.exp(-6.9 * t / seconds)
    bright = band(tail, 2500.0, 9000.0) * np.exp(-16.0 * t / seconds)
    tail = np.pad(dark + 0.7 * bright, ((0, 0), (frames_of(0.01), 0)))
    return np.asarray(tail / np.sqrt(np.mean(np.sum(tail**2, axis=-1))), dtype=np.float32)


def reverberated(sound: Audio, tail: Audio, wet: float) -> Audio:
    """Sound [2, frames] with the room added at the given wet gain."""
    size = fft_frames(sound.shape[-1] + tail.shape[-1])
    wet_sound = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)
    return (sound + wet * wet_sound[..., : sound.shape[-1]]).astype(np.float32)


def echoed(sound: Audio, delay_s: float, feedback: float, wet: float) -> Audio:
    """Sound [2, frames] with ping-pong echoes."""
    out = sound.copy()
    echo = sound * np.float32(wet)
    for _ in range(4):
        delayed = np.zeros_like(sound)
        add_at(delayed, frames_of(delay_s), echo[::-1])
        out += delayed
        echo = delayed * np.float32(feedback)
    return out


def compressed(sound: Audio, threshold_db: float, ratio: float) -> Audio:
    """Sound [2, frames] turned down where it is louder than the threshold."""
    return np.asarray(sound * compressor_gain(sound, threshold_db, ratio), dtype=np.float32)


def compressor_gain(sound: Audio, threshold_db: float, ratio: float) -> Audio:
    """Gain [frames] of a feed-forward compressor on 5.8-ms blocks: attack 10 ms, release 120 ms, about."""
    block = 256
    frames = sound.shape[-1]
    power = np.pad(np.mean(sound**2, axis=0), (0, -frames % block)).reshape(-1, block).mean(axis=1)
    over_db = np.maximum(10.0 * np.log10(power + 1e-10) - threshold_db, 0.0)
    smooth, level = np.empty_like(over_db), 0.0
    for i, value in enumerate(over_db):
        level += (value - level) * (0.45 if value > level else 0.047)
        smooth[i] = level
    gain = 10.0 ** (-smooth * (1.0 - 1.0 / ratio) / 20.0)
    centres = np.arange(len(gain)) * block + block / 2
    return np.asarray(np.interp(np.arange(frames), centres, gain), dtype=np.float32)


def driven(sound: Audio, gain: float) -> Audio:
    """Soft saturation that keeps small signals as they are."""
    return np.asarray(np.tanh(sound * np.float32(gain)) / np.float32(gain), dtype=np.float32)


def active_rms(sound: Audio) -> float:
    """RMS of the louder half of the 46-ms blocks; 0 for silence."""
    frames = sound.shape[-1] // 2048 * 2048
    if frames == 0:
        return float(np.sqrt(np.mean(sound**2))) if sound.size else 0.0
    power = np.mean(sound[..., :frames].reshape(*sound.shape[:-1], -1, 2048) ** 2, axis=-1)
    power = np.sort(power.reshape(-1, power.shape[-1]).mean(axis=0))
    power = power[power > 1e-9]
    return float(np.sqrt(power[len(power) // 2 :].mean())) if len(power) else 0.0


def levelled(sound: Audio, level_db: float) -> Audio:
    """Sound scaled so that its active RMS is `level_db` dBFS; silence stays silence."""
    rms = active_rms(sound)
    return sound * np.float32(10.0 ** (level_db / 20.0) / rms) if rms > 0.0 else sound
