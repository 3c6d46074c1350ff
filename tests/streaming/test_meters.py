"""Peak meters: up at once, down by 20 dB a second, never stuck."""

import numpy as np
import pytest

from streaming.compiled import compiled
from streaming.meters import HIGHEST, fall_factor, meter

RATE_HZ = 44100


@compiled
def read_meter(peaks, block, fall):
    meter(peaks, 1, block, block.shape[1], fall)


def after(block, before=0.0, fall=0.5):
    peaks = np.array([7.0, before, 7.0], np.float32)
    read_meter(peaks, np.array(block, np.float32), fall)
    assert peaks[0] == peaks[2] == 7.0
    return peaks[1]


def test_a_peak_of_either_sign_and_any_channel_shows_at_once():
    assert after([[0.1, -0.2, 0.1], [0.0, -0.75, 0.5]]) == 0.75


def test_below_the_peak_it_falls():
    assert after([[0.1], [0.1]], before=0.8) == np.float32(0.4)
    assert after([[0.5], [0.1]], before=0.8) == 0.5


def test_it_falls_by_20_db_a_second_whatever_the_block():
    whole = compiled(lambda frames: fall_factor(frames, RATE_HZ))
    assert whole(RATE_HZ) == pytest.approx(0.1)
    assert whole(100) ** 441 == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 3.4e38])
def test_no_sample_sticks_a_meter(bad):
    assert after([[bad, 0.1]]) == HIGHEST
    assert after([[0.1]], before=after([[bad]])) == HIGHEST / 2


def test_nan_moves_no_meter():
    assert after([[np.nan, 0.25, np.nan]]) == 0.25
