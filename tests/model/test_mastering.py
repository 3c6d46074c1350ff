"""What is done to a mix is done to its stems alike."""

import numpy as np
import pytest

from model.filters import RATE_HZ
from model.training.mastering import CHAIN, coded, glued, limiter_gain, mastered, rounding_gains, widened
from model.training.spectra import sound_of, spectra_of

FRAMES = 3 * 11025
TREATMENTS = [treatment for treatment, _ in CHAIN]


def stems(seed=0):
    """Four stems of swelling noise, the second silent."""
    noise = np.random.default_rng(seed).standard_normal((4, 2, FRAMES)) * 0.1
    noise *= 10.0 ** (np.sin(np.arange(FRAMES) / 3000.0) * [[[0.5]], [[0.0]], [[-0.5]], [[0.3]]])
    noise[1] = 0.0
    return noise.astype(np.float32)


@pytest.mark.parametrize("treatment", TREATMENTS, ids=lambda treatment: treatment.__name__)
def test_a_treatment_of_the_sum_is_the_sum_of_the_treated_stems(treatment):
    apart = treatment(np.random.default_rng(1), stems())
    whole = treatment(np.random.default_rng(1), stems().sum(axis=0, keepdims=True))
    assert np.abs(apart.sum(axis=0) - whole[0]).max() < 1e-5
    assert np.abs(apart - stems()).max() > 0.01


@pytest.mark.parametrize("treatment", TREATMENTS, ids=lambda treatment: treatment.__name__)
@pytest.mark.parametrize("frames", [2048, FRAMES, FRAMES + 1])
def test_a_treatment_keeps_silence_length_and_type(treatment, frames):
    treated = treatment(np.random.default_rng(2), np.resize(stems(), (4, 2, frames)))
    assert treated.shape == (4, 2, frames) and treated.dtype == np.float32 and np.isfinite(treated).all()
    assert not treatment(np.random.default_rng(2), np.zeros((4, 2, frames), np.float32)).any()


def test_a_stem_that_is_silent_stays_so():
    for treatment in TREATMENTS:
        assert not treatment(np.random.default_rng(3), stems())[1].any()


@pytest.mark.parametrize("ceiling", [0.5, 0.05])
def test_a_limiter_holds_its_ceiling_between_blocks_too(ceiling):
    sound = stems().sum(axis=0)
    sound[:, 7000:7003] = 3.0
    gain = limiter_gain(sound, ceiling)
    assert np.abs(sound * gain).max() <= ceiling * (1 + 1e-5)
    assert np.abs(np.diff(gain)).max() < 0.01


def test_a_limiter_leaves_quiet_sound_alone():
    assert np.array_equal(limiter_gain(stems().sum(axis=0), 100.0), np.ones(FRAMES, np.float32))


def test_compression_brings_loud_and_quiet_closer():
    def range_db(sound):
        return 20 * np.log10(np.std(sound[:, -FRAMES // 4 :]) / np.std(sound[:, : FRAMES // 4]))

    sound = stems()
    sound[..., : FRAMES // 2] *= 0.1
    treated = glued(np.random.default_rng(0), sound)
    assert range_db(treated.sum(axis=0)) < range_db(sound.sum(axis=0)) - 1.0


def test_a_codec_takes_the_treble_and_makes_holes():
    treated = coded(np.random.default_rng(0), stems()).sum(axis=0)
    spectrum = np.abs(np.fft.rfft(treated[0]))
    treble = FRAMES * 18_000 // RATE_HZ
    assert spectrum[treble:].max() < 0.01 * spectrum[:treble].max()
    magnitudes = np.abs(spectra_of(stems().sum(axis=0)))
    gains = rounding_gains(np.random.default_rng(0), magnitudes)
    assert gains.min() == 0.0 and gains.max() <= 2.0
    assert 0.05 < (gains == 0.0).mean() < 0.95


def test_sides_range_from_mono_to_wider():
    def side(sound):
        return float(np.std(sound[:, 0] - sound[:, 1]))

    widths = {
        round(side(widened(np.random.default_rng(seed), stems())) / side(stems()), 2) for seed in range(30)
    }
    assert min(widths) == 0.0 and max(widths) > 1.2 and len(widths) > 5


def test_mastering_follows_the_seed_and_often_does_nothing():
    first, again = (mastered(np.random.default_rng(5), stems()) for _ in range(2))
    assert np.array_equal(first, again)
    untouched = sum(np.array_equal(mastered(np.random.default_rng(s), stems()), stems()) for s in range(30))
    assert 3 < untouched < 20


def test_windows_overlap_to_the_sound_they_came_from():
    sound = stems()[0]
    assert np.abs(sound_of(spectra_of(sound), FRAMES) - sound).max() < 1e-5
