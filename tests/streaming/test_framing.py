import dataclasses
import math

import pytest

from streaming.framing import (
    FramingError,
    WindowedFraming,
    db_to_gain,
    frames_to_ms,
    gain_to_db,
    ms_to_frames,
)

GPU = WindowedFraming(
    window_frames=88200, hop_frames=1764, lookahead_frames=2205, fade_frames=441, stft_hop_frames=441
)


def test_the_windowed_profile_has_the_latency_that_is_promised():
    assert GPU.latency_frames == 4410


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("hop_frames", 0, "at least 1"),
        ("hop_frames", 440, "multiple of the STFT hop 441"),
        ("fade_frames", 440, "multiple of the STFT hop 441"),
        ("fade_frames", 2205, "not be longer than the hop"),
        ("fade_frames", -441, "multiple"),
        ("lookahead_frames", 1764, "needs 2048"),
        ("lookahead_frames", 2206, "multiple of the STFT hop 441"),
        ("window_frames", 4409, "need 4410"),
        ("stft_hop_frames", 0, "take 1 to 2048"),
        ("stft_hop_frames", 4096, "take 1 to 2048"),
    ],
)
def test_windowed_counts_that_do_not_fit_are_refused(field, value, reason):
    with pytest.raises(FramingError, match=reason):
        dataclasses.replace(GPU, **{field: value})


def test_units():
    assert frames_to_ms(441, 44100) == 10.0
    assert ms_to_frames(10.0, 48000) == 480
    assert ms_to_frames(frames_to_ms(12345, 44100), 44100) == 12345
    assert db_to_gain(0.0) == 1.0 and db_to_gain(-math.inf) == 0.0
    assert db_to_gain(20.0) == pytest.approx(10.0)
    assert gain_to_db(0.0) == -math.inf
    assert gain_to_db(db_to_gain(-3.5)) == pytest.approx(-3.5)
