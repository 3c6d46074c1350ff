"""The song generator and the bundled demo song."""

from pathlib import Path

import numpy as np
import pytest
from pedalboard.io import AudioFile

from model.filters import RATE_HZ
from model.training.demo import demo_song
from model.training.singing import Syllable, Voice, random_voice, sing
from model.training.songs import STEM_NAMES, song
from model.training.synth import Note, hz_of

DEMO = Path(__file__).parents[2] / "host" / "assets" / "demo"


def spectrum(mono):
    return np.abs(np.fft.rfft(mono)), np.fft.rfftfreq(len(mono), 1 / RATE_HZ)


def share_of_energy(mono, low_hz, high_hz):
    magnitude, hz = spectrum(mono)
    inside = (hz >= low_hz) & (hz < high_hz)
    return np.sum(magnitude[inside] ** 2) / np.sum(magnitude**2)


def test_song_is_fixed_by_seed_and_index():
    assert np.array_equal(song(5, 2, 3.0), song(5, 2, 3.0))


@pytest.mark.parametrize("other", [(5, 3), (6, 2)])
def test_another_seed_or_index_gives_another_song(other):
    assert not np.array_equal(song(5, 2, 3.0), song(*other, 3.0))


def test_song_has_four_stereo_stems_under_the_ceiling():
    stems = song(1, 3, 4.0)
    assert stems.shape == (4, 2, 4 * RATE_HZ)
    assert stems.dtype == np.float32
    assert np.isfinite(stems).all()
    assert np.abs(stems.sum(axis=0)).max() <= 10 ** (-1 / 20) + 1e-6


def test_bass_is_low_and_drums_have_lows_and_highs():
    stems = song(1, 0, 8.0)
    assert share_of_energy(stems[STEM_NAMES.index("bass")].mean(axis=0), 20, 500) > 0.7
    drums = stems[STEM_NAMES.index("drums")].mean(axis=0)
    assert share_of_energy(drums, 30, 120) > 0.05
    assert share_of_energy(drums, 4000, 16_000) > 0.01


def sung(voice, pitch=57.0):
    notes = [Note(0.0, 1.5, pitch)]
    return sing(np.random.default_rng(0), voice, notes, [Syllable("", "a", "a")], round(1.6 * RATE_HZ))


def test_voice_sings_the_pitch_it_is_given():
    magnitude, hz = spectrum(
        sung(Voice(scoop_semitones=0.0, vibrato_cents=0.0, breath=0.0))[RATE_HZ // 2 : RATE_HZ]
    )
    fundamental = (hz > 150) & (hz < 300)
    assert hz[fundamental][np.argmax(magnitude[fundamental])] == pytest.approx(hz_of(57.0), abs=8.0)


def test_longer_throat_lowers_formants():
    centroids = []
    for size in (0.85, 1.2):
        magnitude, hz = spectrum(sung(Voice(size=size)))
        centroids.append(np.sum(hz * magnitude) / np.sum(magnitude))
    assert centroids[0] < centroids[1]


def test_random_voices_have_vibrato_of_50_to_150_cents():
    spans = [2 * random_voice(np.random.default_rng(seed)).vibrato_cents for seed in range(50)]
    assert 50 <= min(spans) < max(spans) <= 150


def test_no_notes_is_silence():
    assert not sing(np.random.default_rng(0), Voice(), [], [], 1000).any()


def bundled():
    stems = []
    for name in STEM_NAMES:
        with AudioFile(str(DEMO / f"{name}.ogg")) as file:
            assert file.samplerate == RATE_HZ
            stems.append(file.read(file.frames))
    return np.stack(stems)


def test_bundled_demo_is_the_song_that_the_code_makes():
    decoded, made = bundled(), demo_song()
    assert decoded.shape == made.shape
    error = np.sum((decoded - made) ** 2, axis=(1, 2)) / np.sum(made**2, axis=(1, 2))
    assert error.max() < 0.05
    assert np.abs(decoded.sum(axis=0)).max() <= 10 ** (-1 / 20)
    assert sum(path.stat().st_size for path in DEMO.glob("*.ogg")) < 2_000_000


def test_demo_has_an_intro_without_vocals():
    vocals = bundled()[STEM_NAMES.index("vocals")]
    assert np.abs(vocals[:, : 4 * RATE_HZ]).max() < 1e-3
    assert np.abs(vocals[:, 6 * RATE_HZ : 8 * RATE_HZ]).max() > 0.05
