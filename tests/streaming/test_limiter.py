"""The limiter against its plain restatement."""

import numpy as np
import pytest

from streaming.compiled import compiled
from streaming.limiter import CEILING, LOOKAHEAD_FRAMES, limit

RELEASE = 1.0 / 441


@compiled
def limit_block(gain, block):
    return limit(gain, CEILING, RELEASE, block, block.shape[1])


def limited(signal, sizes=(64,), gain=1.0):
    """`signal` limited in blocks; and whether each block was acted on."""
    out, acted, first = signal.astype(np.float64), [], 0
    while first < out.shape[1]:
        block = np.ascontiguousarray(out[:, first : first + sizes[len(acted) % len(sizes)]])
        gain, touched = limit_block(gain, block)
        out[:, first : first + block.shape[1]] = block
        acted.append(touched)
        first += block.shape[1]
    return out, acted


def restated(signal):
    gain, out = 1.0, np.zeros_like(signal)
    for i, frame in enumerate(signal.T):
        gain = min(1.0, gain + RELEASE, CEILING / max(np.abs(frame).max(), 1e-300))
        out[:, i] = gain * frame
    return out


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_its_restatement_whatever_the_blocks(seed):
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 0.5, (2, 5000)) * np.where(rng.random(5000) < 0.01, 20, 1)
    out, _ = limited(signal, [1, 64, 65, 128])
    assert np.abs(out - restated(signal)).max() < 1e-12
    assert np.abs(out).max() <= CEILING


def test_below_the_ceiling_every_bit_stays():
    signal = np.random.default_rng(0).uniform(-1, 1, (2, 5000))
    signal[0, 17], signal[1, 18] = 1.0, -1.0
    out, acted = limited(signal)
    assert np.array_equal(out, signal)
    assert not any(acted)


def test_after_a_peak_the_gain_comes_back_to_exactly_one():
    signal = np.full((2, 2000), 0.5)
    signal[0, 100] = 4.0
    out, acted = limited(signal)
    assert out[0, 100] == CEILING and out[1, 100] == 0.125  # both channels by the same gain
    released = 100 + 331  # 0.75 at 1/441 each frame
    assert np.array_equal(out[:, released:], signal[:, released:])
    assert (out[:, 101 : released - 1] < 0.5).all()
    assert acted == [64 * block <= released - 1 and 64 * (block + 1) > 100 for block in range(len(acted))]


def test_the_ceiling_holds_where_rounding_would_pass_it():
    signal = np.random.default_rng(1).uniform(1, 1e300, (2, 20_000))
    assert np.abs(limited(signal)[0]).max() <= CEILING


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_zero(bad):
    signal = np.full((2, 640), 0.5)
    signal[1, 70] = bad
    out, acted = limited(signal)
    signal[1, 70] = 0.0
    assert np.array_equal(out, signal)
    assert acted == [False, True] + [False] * 8


def test_it_looks_ahead_by_what_it_declares():
    signal = np.zeros((2, 500))
    signal[:, 200] = 3.0
    assert list(np.flatnonzero(limited(signal)[0][0])) == [200 + LOOKAHEAD_FRAMES]
