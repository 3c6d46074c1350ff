"""The shared memory of a run: laid out once, found again by name."""

import numpy as np
import pytest

from streaming.segment import SegmentError
from streaming.session import Session, SessionError, SessionSpec
from streaming.snapshot import neutral_controls
from tests.streaming.rig import HOP, STEMS, noise, open_session, publish_plan


def spec(**changes):
    values = {
        "sample_rate_hz": 48000,
        "channels": 2,
        "stem_names": STEMS,
        "hop_frames": 480,
        "stem_latency_frames": 1000,
        "chained": (True, False, False),
        "capacity_frames": 4800,
    }
    return SessionSpec(**{**values, **changes})


def test_who_attaches_finds_the_same_memory_and_spec():
    session = Session.create(spec())
    other = Session.attach(session.name)
    assert other.spec == session.spec == spec()
    block = noise(64)
    session.dry.write(0, block)
    session.raw[1].write(480, block)
    session.wet[0].write(-5, block)
    session.controls.publish(neutral_controls())
    publish_plan(session, 4, 99)
    session.health.counters[2, 3] = 8
    session.wake_plugins.post()
    out = np.zeros((2, 64), np.float32)
    for timeline, frame in ((other.dry, 0), (other.raw[1], 480), (other.wet[0], -5)):
        assert timeline.read(frame, out) == (0, 64)
        assert np.array_equal(out, block)
    assert other.raw[0].end == other.raw[2].end == other.wet[1].end == 0
    assert other.controls.latest() == neutral_controls()
    assert other.plan.latest()["latency_frames"][0] == 99
    assert other.health.counters[2, 3] == 8
    assert other.wake_plugins.wait(0) and not other.wake_separator.wait(0)
    other.close()
    session.close()
    session.unlink()


def test_what_is_unlinked_is_found_no_more():
    with open_session() as session:
        name = session.name
    with pytest.raises(SegmentError, match="no shared memory"):
        Session.attach(name)


@pytest.mark.parametrize("stem_latency", [2 * HOP, 1000, 1, 0])
def test_hops_of_stems_begin_where_the_separator_puts_them(stem_latency):
    with open_session(stem_latency=stem_latency) as session:
        ends = np.arange(1, 20) * HOP
        assert set((ends - stem_latency) % HOP) == {session.spec.hop_phase_frames}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stem_names": (), "chained": ()}, "0 stems"),
        ({"stem_names": ("x",) * 16, "chained": (False,) * 16}, "16 stems"),
        ({"chained": (True,)}, "chained"),
        ({"channels": 0}, "0 channels"),
        ({"channels": 9}, "9 channels"),
        ({"capacity_frames": 479}, "capacity"),
        ({"hop_frames": 0}, "hop of 0"),
    ],
)
def test_what_cannot_be_laid_out_is_refused_in_one_line(changes, said):
    with pytest.raises(SessionError, match=said) as error:
        spec(**changes)
    assert "\n" not in str(error.value)
