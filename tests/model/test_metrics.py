"""Metrics against values worked out by hand and against their invariances."""

import importlib.util
from functools import cache
from importlib.metadata import distribution

import numpy as np
import pytest

from model.metrics import (
    chunk_median_sdr_db,
    framewise_sdr_db,
    null_residual_db,
    sdr_db,
    si_sdr_db,
    si_sdr_or_none,
)

TRUTH = np.random.default_rng(1).standard_normal((3, 2, 1000))


def orthogonal_error(db: float) -> np.ndarray:
    """An error `db` below the truth and orthogonal to it over all channels."""
    error = np.random.default_rng(2).standard_normal(TRUTH.shape)
    error -= TRUTH * (error * TRUTH).sum((1, 2), keepdims=True) / (TRUTH**2).sum((1, 2), keepdims=True)
    scale = np.sqrt((TRUTH**2).sum((1, 2), keepdims=True) / (error**2).sum((1, 2), keepdims=True))
    return error * scale * 10 ** (-db / 20)


@pytest.mark.parametrize("db", [-10.0, 0.0, 23.5])
def test_orthogonal_errors_give_their_level(db: float) -> None:
    estimate = TRUTH + orthogonal_error(db)
    np.testing.assert_allclose(sdr_db(estimate, TRUTH), [db] * 3, atol=1e-9)
    np.testing.assert_allclose(si_sdr_db(estimate, TRUTH), [db] * 3, atol=1e-9)
    np.testing.assert_allclose(null_residual_db(estimate, TRUTH), [-db] * 3, atol=1e-9)


def test_only_si_sdr_ignores_scale() -> None:
    estimate = TRUTH + orthogonal_error(12)
    np.testing.assert_allclose(si_sdr_db(0.1 * estimate, TRUTH), [12] * 3, atol=1e-9)
    np.testing.assert_allclose(sdr_db(0.5 * TRUTH, TRUTH), [20 * np.log10(2)] * 3, atol=1e-9)


def test_silence_gives_finite_scores() -> None:
    silent = np.zeros_like(TRUTH)
    for score in (sdr_db, si_sdr_db, null_residual_db):
        for pair in ((TRUTH, silent), (silent, TRUTH), (silent, silent)):
            assert np.isfinite(score(*pair)).all()


def test_float32_input_is_scored_in_float64() -> None:
    truth = TRUTH.astype(np.float32)
    assert sdr_db(truth * np.float32(1 + 1e-6), truth).min() > 100


@cache
def museval_metrics():
    """museval's own measures; the package around them wants ffmpeg as soon as it is imported."""
    path = distribution("museval").locate_file("museval/metrics.py")
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_museval_has_it(estimates, truths, window_frames):
    """BSSEval v4 with its distortion filters: [stems, windows]."""
    sources = [np.moveaxis(audio, 1, 2).astype(np.float64) for audio in (truths, estimates)]
    return museval_metrics().bss_eval(*sources, window=window_frames, hop=window_frames, filters_len=512)[0]


def separated(stems=3, channels=2, frames=10_000, seed=3):
    """Coloured stems and estimates with filtering, interference and noise, float32."""
    rng = np.random.default_rng(seed)
    truths = np.cumsum(rng.standard_normal((stems, channels, frames)), axis=-1) * 1e-3
    truths += 0.05 * rng.standard_normal(truths.shape)
    filtered = 0.8 * truths + 0.15 * np.roll(truths, 40, axis=-1)
    estimates = filtered + 0.1 * truths.sum(axis=0) + 0.02 * rng.standard_normal(truths.shape)
    return estimates.astype(np.float32), truths.astype(np.float32)


@pytest.mark.parametrize(
    ("channels", "frames", "window_frames"),
    [
        (2, 10_000, 2000),
        (2, 10_001, 2000),
        (2, 9999, 2000),
        (1, 6000, 1999),
        (2, 3000, 3000),
        (2, 2999, 3000),
    ],
)
def test_framewise_sdr_is_musevals(channels, frames, window_frames) -> None:
    estimates, truths = separated(channels=channels, frames=frames)
    expected = as_museval_has_it(estimates, truths, window_frames)
    scores = framewise_sdr_db(estimates, truths, window_frames)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    medians = chunk_median_sdr_db(estimates, truths, window_frames)
    np.testing.assert_allclose(medians, np.nanmedian(expected, axis=1), atol=1e-6)


def test_a_window_where_one_stem_is_silent_counts_for_none_as_in_museval() -> None:
    estimates, truths = separated()
    truths[0, :, 2000:4000] = 0.0
    estimates[1, :, 6000:8000] = 0.0
    truths[2, 0, 8000:] = -truths[2, 1, 8000:]  # opposite sides: their sum is silent
    expected = as_museval_has_it(estimates, truths, 2000)
    assert np.isnan(expected).sum() == 9
    np.testing.assert_allclose(framewise_sdr_db(estimates, truths, 2000), expected, atol=1e-6)


def test_a_quiet_window_is_scored_as_exactly_as_a_loud_one() -> None:
    estimates, truths = separated()
    estimates[..., 4000:6000] *= 1e-6
    truths[..., 4000:6000] *= 1e-6
    expected = as_museval_has_it(estimates, truths, 2000)
    np.testing.assert_allclose(framewise_sdr_db(estimates, truths, 2000), expected, atol=1e-6)


@pytest.mark.parametrize("silent", ["truth", "estimate"])
def test_a_stem_that_never_sounds_has_no_score_and_spoils_no_others(silent) -> None:
    estimates, truths = separated()
    others = as_museval_has_it(estimates[1:], truths[1:], 2000)
    {"truth": truths, "estimate": estimates}[silent][0] = 0.0
    scores = framewise_sdr_db(estimates, truths, 2000)
    assert np.isnan(scores[0]).all()
    np.testing.assert_allclose(scores[1:], others, atol=1e-6)
    assert np.isnan(chunk_median_sdr_db(estimates, truths, 2000)).tolist() == [True, False, False]


def test_no_error_at_all_is_infinite() -> None:
    _, truths = separated()
    assert np.isposinf(chunk_median_sdr_db(truths, truths, 2000)).all()


def test_si_sdr_of_silence_is_none() -> None:
    silent = np.zeros_like(TRUTH[0])
    assert si_sdr_or_none(silent, TRUTH[0]) is None
    assert si_sdr_or_none(TRUTH[0], silent) is None
    assert si_sdr_or_none(TRUTH[1], TRUTH[0]) == float(si_sdr_db(TRUTH[1], TRUTH[0]))
