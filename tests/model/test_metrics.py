"""Metrics against values worked out by hand and against their invariances."""

import numpy as np
import pytest

from model.metrics import null_residual_db, sdr_db, si_sdr_db

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
