"""Band-pass and oracle masks: exact where they can be, better than the mixture where they should."""

import numpy as np
import pytest

from model.baselines import band_pass, equalised, ideal_ratio_masks, less_scaled, likeness, static_eq
from model.metrics import sdr_db


def tone(hz, frames=8192, rate_hz=44_100):
    line = np.sin(2 * np.pi * hz * np.arange(frames) / rate_hz)
    return np.stack([line, 0.5 * line]).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 511, 512, 513, 2047, 2049, 8192])
def test_masks_share_the_mixture_out(frames) -> None:
    sources = np.random.default_rng(1).standard_normal((3, 2, frames)).astype(np.float32)
    mixture = sources.sum(axis=0)
    estimates = ideal_ratio_masks(mixture, sources)
    assert estimates.shape == sources.shape
    np.testing.assert_allclose(estimates.sum(axis=0), mixture, atol=1e-5)


def test_masks_separate_what_does_not_overlap() -> None:
    sources = np.stack([tone(300), tone(3000)])
    estimates = ideal_ratio_masks(sources.sum(axis=0), sources)
    assert sdr_db(estimates, sources).min() > 25


def test_a_silent_source_gets_nothing() -> None:
    sources = np.stack([tone(300), np.zeros((2, 8192), np.float32)])
    assert not ideal_ratio_masks(sources[0], sources)[1].any()


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_the_band_of_the_bass_keeps_the_bass(rate_hz) -> None:
    low, high = tone(100, 48_000, rate_hz), tone(1000, 48_000, rate_hz)
    passed = band_pass(low + high, "bass", rate_hz)
    inner = slice(4000, -4000)
    assert sdr_db(passed[:, inner], low[:, inner]) > 30


def test_no_band_is_made_up_for_drums() -> None:
    assert band_pass(tone(100), "drums", 44_100) is None


def test_a_scaled_part_leaves_the_least_error() -> None:
    rng = np.random.default_rng(2)
    voice, backing = rng.standard_normal((2, 2, 5000)).astype(np.float32)
    part = 0.3 * voice + 0.1 * backing
    mixture = voice + backing
    best = sdr_db(less_scaled(mixture, part, backing), backing)
    scale = np.vdot(part, voice) / np.vdot(part, part)
    others = [sdr_db(mixture - factor * scale * part, backing) for factor in (0.0, 0.9, 1.0, 1.1)]
    assert best == pytest.approx(max(others), abs=1e-4)
    assert others[2] == max(others)
    np.testing.assert_array_equal(less_scaled(mixture, np.zeros_like(part), backing), mixture)


def test_an_equaliser_learns_where_a_stem_lies_and_works_on_another_song() -> None:
    songs = [
        (tone(hz, 44_100), tone(4 * hz, 44_100), level) for hz, level in ((300, 1.0), (320, 8.0), (310, 0.2))
    ]
    fitted = static_eq([likeness(level * (low + high), level * low) for low, high, level in songs[:2]])
    low, high, level = songs[2]
    passed = equalised(level * (low + high), fitted, 44_100)
    inner = slice(4000, -4000)
    assert sdr_db(passed[:, inner], level * low[:, inner]) > 15


def test_an_equaliser_gives_every_song_the_same_weight() -> None:
    """Half of the songs are all stem, half have none of it, whatever their levels: the gain is a half."""
    loud, quiet = tone(1000), 0.01 * tone(1000)
    gains = static_eq([likeness(loud, loud), likeness(quiet, 0 * quiet)])
    assert gains[round(1000 * 2048 / 44_100)] == pytest.approx(0.5, abs=1e-3)
    assert static_eq([likeness(loud, -loud)]).max() == 0.0
