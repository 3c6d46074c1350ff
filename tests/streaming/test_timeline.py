"""Timelines against a model that a child could check: a dictionary of the current run's frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.timeline import (
    CLAIM,
    END,
    EPOCH,
    HEADER_WORDS,
    START,
    Timeline,
    TimelineError,
    timeline_read,
    timeline_write,
)

UNTOUCHED = np.float32(-1e9)


def new_timeline(capacity, channels=2):
    return Timeline(np.zeros(HEADER_WORDS, np.int64), np.zeros((channels, capacity), np.float32))


class Model:
    """The current run as a dictionary frame -> value; what the ring has overwritten is forgotten."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.run = {}
        self.start = self.end = self.epoch = 0

    def write(self, frame, values):
        if frame != self.end:
            self.run, self.start, self.end, self.epoch = {}, frame, frame, self.epoch + 1
        for value in values:
            self.run[self.end] = value
            self.run.pop(self.end - self.capacity, None)
            self.end += 1

    def read(self, frame, frames):
        return {i: self.run[frame + i] for i in range(frames) if frame + i in self.run}


def check_read(timeline, model, frame, frames):
    out = np.full((2, frames), UNTOUCHED, np.float32)
    valid_from, valid_to = timeline.read(frame, out)
    expected = model.read(frame, frames)
    assert list(range(valid_from, valid_to)) == sorted(expected)
    for i in range(frames):
        assert out[0, i] == expected.get(i, UNTOUCHED)
        assert out[1, i] == -expected.get(i, -UNTOUCHED)


operations = st.lists(
    st.tuples(
        st.sampled_from(["append", "jump", "read"]),
        st.integers(-150, 150),
        st.integers(0, 150),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(capacity=st.integers(1, 65), operations=operations)
def test_agrees_with_the_model(capacity, operations):
    timeline, model = new_timeline(capacity), Model(capacity)
    number = 0
    for what, offset, frames, far in operations:
        frame = model.end + offset + (10**15 if far else 0)
        if what == "read":
            check_read(timeline, model, frame, frames)
            continue
        values = np.arange(number, number + frames, dtype=np.float32)
        number += frames
        at = model.end if what == "append" else frame
        timeline.write(at, np.stack([values, -values]))
        model.write(at, values)
        assert (timeline.start, timeline.end, timeline.epoch) == (model.start, model.end, model.epoch)
    check_read(timeline, model, model.end - 100, 200)


@pytest.mark.parametrize("frames", [1, 64, 65, 128, 440, 441, 442])
def test_blocks_of_any_size_come_back_across_the_wrap(frames):
    timeline = new_timeline(1000)
    sent = np.random.default_rng(1).standard_normal((2, 5000), np.float32)
    for first in range(0, 5000 - frames, frames):
        timeline.write(-2500 + first, sent[:, first : first + frames])
        out = np.empty((2, frames), np.float32)
        assert timeline.read(-2500 + first, out) == (0, frames)
        np.testing.assert_array_equal(out, sent[:, first : first + frames])


def test_views_with_strides_are_copied_right_and_compile_nothing():
    timeline = new_timeline(64)
    timeline.write(0, np.zeros((2, 1), np.float32))
    timeline.read(0, np.zeros((2, 1), np.float32))
    compiled_before = [len(function.signatures) for function in (timeline_write, timeline_read)]
    interleaved = np.arange(40, dtype=np.float32).reshape(20, 2)
    interleaved.flags.writeable = False
    timeline.write(5, interleaved.T)
    out = np.full((30, 2), UNTOUCHED, np.float32)
    assert timeline.read(5, out.T) == (0, 20)
    np.testing.assert_array_equal(out[:20], interleaved)
    assert (out[20:] == UNTOUCHED).all()
    timeline.write(25, np.ones((2, 9), np.float32)[:, 2:5])
    assert timeline.end == 28
    assert compiled_before == [len(function.signatures) for function in (timeline_write, timeline_read)]


def killed_during_write(timeline, frames, spoilt):
    """Leave what a writer leaves that is killed in `timeline_write` after copying `spoilt` frames."""
    timeline.header[CLAIM] = max(timeline.header[CLAIM], timeline.end + frames)
    for frame in range(timeline.end, timeline.end + spoilt):
        timeline.data[:, frame % timeline.capacity_frames] = np.nan


def readable(timeline):
    out = np.full((2, 3 * timeline.capacity_frames), UNTOUCHED, np.float32)
    first_frame = timeline.end - 2 * timeline.capacity_frames
    valid_from, valid_to = timeline.read(first_frame, out)
    assert not np.isnan(out[:, valid_from:valid_to]).any()
    return range(first_frame + valid_from, first_frame + valid_to)


@pytest.mark.parametrize("spoilt", [0, 1, 5, 8])
def test_a_killed_write_spoils_nothing_that_can_be_read(spoilt):
    timeline = new_timeline(10)
    timeline.write(100, np.ones((2, 25), np.float32))
    killed_during_write(timeline, 8, spoilt)
    assert readable(timeline) == range(123, 125)
    # A successor that goes on with a shorter block must not bring the spoilt frames back.
    timeline.write(125, np.ones((2, 1), np.float32))
    assert readable(timeline) == range(123, 126)
    timeline.write(126, np.ones((2, 12), np.float32))
    assert readable(timeline) == range(128, 138)
    assert timeline.epoch == 1


@pytest.mark.parametrize("stores", [0, 1, 2, 3])
def test_a_writer_killed_while_opening_a_run_is_healed_by_the_next(stores):
    timeline = new_timeline(10)
    timeline.write(100, np.ones((2, 4), np.float32))
    timeline.header[EPOCH] += 1
    for counter in [CLAIM, START, END][:stores]:
        timeline.header[counter] = 50
    assert len(readable(timeline)) == 0
    # Even where the next writer's frame happens to be what END says.
    frame = timeline.end
    timeline.write(frame, np.ones((2, 3), np.float32))
    assert readable(timeline) == range(frame, frame + 3)
    assert timeline.header[EPOCH] % 2 == 0 and timeline.epoch == 2


def test_a_run_that_goes_back_shows_nothing_of_the_old_one():
    timeline = new_timeline(10)
    timeline.write(1000, np.full((2, 10), np.nan, np.float32))
    timeline.write(995, np.ones((2, 2), np.float32))
    assert readable(timeline) == range(995, 997)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (np.zeros(8, np.int64), np.zeros((2, 8), np.float32)),
        (np.zeros(HEADER_WORDS, np.int32), np.zeros((2, 8), np.float32)),
        (np.zeros(HEADER_WORDS, np.int64), np.zeros(8, np.float32)),
        (np.zeros(HEADER_WORDS, np.int64), np.zeros((2, 8))),
        (np.zeros(HEADER_WORDS, np.int64), np.zeros((2, 0), np.float32)),
    ],
)
def test_arrays_that_are_no_timeline_are_refused(header, data):
    with pytest.raises(TimelineError, match="must be"):
        Timeline(header, data)


@pytest.mark.parametrize("block", [np.zeros((1, 4), np.float32), np.zeros((2, 4)), np.zeros(4, np.float32)])
def test_blocks_that_do_not_fit_are_refused(block):
    timeline = new_timeline(8)
    with pytest.raises(TimelineError, match="takes float32"):
        timeline.write(0, block)
    with pytest.raises(TimelineError, match="takes float32"):
        timeline.read(0, block)
