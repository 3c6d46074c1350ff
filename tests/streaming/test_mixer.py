"""The parts of the law that a fader meets; the whole law is tested in test_block."""

import numpy as np
import pytest

from streaming.compiled import compiled
from streaming.mixer import ramp_curve, resolve_targets
from streaming.snapshot import RESIDUAL, STRIPS
from tests.streaming.rig import controls


@compiled
def walk(ramp, target, ramp_frames, out):
    ramp_curve(ramp, target, ramp_frames, out, out.shape[0])


def walked(moves, ramp_frames=100, start=1.0):
    """The curve of (target, frames) moves."""
    ramp, curves = np.array([start, start, 0.0]), []
    for target, frames in moves:
        curves.append(np.zeros(frames))
        walk(ramp, target, ramp_frames, curves[-1])
    return np.concatenate(curves)


def targets_of(record):
    targets = np.full(STRIPS, np.nan)
    resolve_targets(record[0], targets)
    return targets


def test_a_fader_at_rest_is_exactly_its_value():
    assert (walked([(0.3, 500)], start=0.3) == 0.3).all()


@pytest.mark.parametrize("frames", [1, 64, 65, 99, 100, 101])
def test_a_fader_walks_a_straight_line_whatever_the_blocks(frames):
    curve = walked([(0.1, frames)] * 4)
    expected = 1.0 + (0.1 - 1.0) * np.minimum(np.arange(1, 4 * frames + 1) / 100, 1.0)
    assert np.abs(curve - expected).max() < 1e-15
    assert (curve[100:] == 0.1).all()


def test_a_fader_that_turns_on_its_way_does_not_step():
    curve = walked([(0.0, 40), (2.0, 30), (0.5, 300)])
    assert np.abs(np.diff(curve)).max() < 2.0 / 100
    assert curve[-1] == 0.5


def test_mute_closes_a_strip_and_leaves_the_others():
    targets = targets_of(controls(mute=[1, RESIDUAL], gain={0: 0.5}))
    assert targets[0] == 0.5 and targets[1] == targets[RESIDUAL] == 0.0 and targets[2] == 1.0


@pytest.mark.parametrize("soloed", [[0], [2, RESIDUAL], [RESIDUAL]])
def test_solo_closes_every_strip_that_is_not_soloed(soloed):
    targets = targets_of(controls(solo=soloed))
    assert [strip for strip in range(STRIPS) if targets[strip] == 1.0] == soloed
    assert np.count_nonzero(targets) == len(soloed)


def test_mute_wins_over_solo():
    assert not targets_of(controls(solo=[1], mute=[1])).any()
