"""Counters in shared memory."""

import numpy as np
import pytest

from streaming.health import BLOCKS, CALLBACK, HOP_RING, HOPS, PLUGINS, ROLES, SEPARATOR, Health
from streaming.segment import Segment


@pytest.fixture
def health():
    segment = Segment.create(Health.fields(), {})
    yield Health.of(segment)
    segment.close()
    segment.unlink()


def test_a_role_that_never_beat_is_infinitely_old(health):
    health.beat(PLUGINS)
    assert health.seconds_since_beat(SEPARATOR) == float("inf")
    assert 0.0 <= health.seconds_since_beat(PLUGINS) < 60.0


def test_every_role_has_a_row_of_its_own(health):
    health.counters[CALLBACK, BLOCKS] = 5
    assert health.count(BLOCKS) == 5
    assert len(set(ROLES.values())) == len(health.counters) == 4
    assert not health.counters[SEPARATOR].any()


def test_loads_are_shares_of_a_hop(health):
    for seconds in (0.001, 0.002, 0.005):
        health.record_hop(seconds)
    times = health.hop_times(441, 44100)
    assert times.loads == pytest.approx([0.1, 0.2, 0.5])
    assert times.percentile(50) == pytest.approx(0.2)
    assert times.percentile(100) == pytest.approx(0.5)


def test_before_the_first_hop_the_load_is_zero(health):
    assert health.hop_times(441, 44100).percentile(99) == 0.0


def test_only_the_newest_hops_are_kept(health):
    for hop in range(HOP_RING + 3):
        health.record_hop(float(hop))
    loads = health.hop_times(1, 1).loads
    assert sorted(loads) == list(np.arange(3.0, HOP_RING + 3))
    assert health.counters[SEPARATOR, HOPS] == HOP_RING + 3
