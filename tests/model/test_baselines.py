"""Band-pass and oracle masks: exact where they can be, better than the mixture where they should."""

import numpy as np
import pytest

from model.baselines import band_pass, ideal_ratio_masks
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
