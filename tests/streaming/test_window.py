import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.timeline import HEADER_WORDS, Timeline
from streaming.window import WindowState, read_window

READY, NOT_YET, LOST = WindowState.READY, WindowState.NOT_YET, WindowState.LOST
START = 100_000


def ramp_timeline(capacity, runs):
    """Timeline whose frame f holds f; `runs` are (start, frames)."""
    timeline = Timeline(np.zeros(HEADER_WORDS, np.int64), np.zeros((1, capacity), np.float32))
    for start, frames in runs:
        timeline.write(start, np.arange(start, start + frames, dtype=np.float32)[None])
    return timeline


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    capacity=st.integers(1, 129),
    written=st.integers(0, 400),
    window=st.integers(1, 129),
    end_offset=st.integers(-50, 450),
)
def test_agrees_with_frames_counted_by_hand(capacity, written, window, end_offset):
    timeline = ramp_timeline(capacity, [(START, written)])
    end_frame = START + end_offset
    out = np.full((1, window), -1, np.float32)
    wanted = range(end_frame - window, end_frame)
    if end_offset > written:
        expected = NOT_YET
    elif end_offset <= 0 or any(START <= f < START + written - capacity for f in wanted):
        expected = LOST
    else:
        expected = READY
    assert read_window(timeline, end_frame, out) is expected
    if expected is READY:
        np.testing.assert_array_equal(out[0], [f if f >= START else 0 for f in wanted])


@pytest.mark.parametrize("hop", [1, 64, 65, 128, 440, 441, 442])
def test_windows_slide_over_a_stream(hop):
    timeline = ramp_timeline(4096, [])
    out = np.empty((1, 882), np.float32)
    for k in range(1, 30):
        assert read_window(timeline, START + k * hop, out) is NOT_YET
        first = START + (k - 1) * hop
        timeline.write(first, np.arange(first, first + hop, dtype=np.float32)[None])
        assert read_window(timeline, START + k * hop, out) is READY
        frames = np.arange(START + k * hop - 882, START + k * hop)
        np.testing.assert_array_equal(out[0], np.where(frames >= START, frames, 0))


def test_a_new_run_is_silence_before_its_start():
    timeline = ramp_timeline(256, [(START, 200), (START + 500, 64)])
    out = np.full((1, 128), -1, np.float32)
    assert read_window(timeline, START + 564, out) is READY
    assert not out[0, :64].any()
    np.testing.assert_array_equal(out[0, 64:], np.arange(START + 500, START + 564))


def test_windows_of_an_old_run_are_lost():
    timeline = ramp_timeline(256, [(START, 200), (START + 500, 64)])
    assert read_window(timeline, START + 200, np.empty((1, 128), np.float32)) is LOST
    assert read_window(timeline, START + 500, np.empty((1, 128), np.float32)) is LOST


class RunOpensBetween(Timeline):
    """A timeline on which a new run opens just before the audio is read."""

    new_run = (0, 0)

    def read(self, frame, out):
        first, frames = self.new_run
        self.write(first, np.ones((1, frames), np.float32))
        return super().read(frame, out)


# The second run has lost the window's first frames, and yet begins where the old run's silence was.
@pytest.mark.parametrize("new_run", [(START - 18, 200), (START - 300, 540)])
def test_a_run_that_opens_meanwhile_is_lost(new_run):
    timeline = ramp_timeline(256, [(START, 200)])
    racing = RunOpensBetween(timeline.header, timeline.data)
    racing.new_run = new_run
    assert read_window(racing, START + 100, np.empty((1, 128), np.float32)) is LOST
