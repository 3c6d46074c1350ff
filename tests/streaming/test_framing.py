import dataclasses
import math

import pytest

from streaming.framing import (
    CausalFraming,
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


def test_the_profiles_have_the_latencies_that_are_promised():
    assert CausalFraming(294).latency_frames == 588
    assert CausalFraming(441).latency_frames == 882
    assert GPU.latency_frames == 4410


def newest_frame_needed(framing, frame):
    """Input frames that must have come before a causal model has finished output frame `frame`."""
    hop, synthesis = framing.hop_frames, framing.synthesis_frames
    touching = [k for k in range(1, 200) if k * hop - synthesis <= frame < k * hop]
    last = max(touching) + framing.lookahead_hops
    calls = -(-last // framing.spectral_frames)
    return calls * framing.call_frames


@pytest.mark.parametrize("spectral_frames", [1, 2, 3])
@pytest.mark.parametrize("lookahead_hops", [0, 1, 4])
@pytest.mark.parametrize("synthesis_hops", [2, 3])
def test_causal_latency_is_the_longest_wait_for_a_finished_frame(
    spectral_frames, lookahead_hops, synthesis_hops
):
    framing = CausalFraming(7, 7 * synthesis_hops, spectral_frames, lookahead_hops)
    waits = [newest_frame_needed(framing, frame) - frame for frame in range(200)]
    assert max(waits) == framing.latency_frames


def windows_frames_touched(first, end, stft_hop, fft):
    """Centred spectral frames whose window (periodic Hann: first sample 0) reaches into [first, end)."""
    return sum(k * stft_hop - fft // 2 + 1 < end and k * stft_hop + fft // 2 > first for k in range(-50, 400))


@pytest.mark.parametrize("stft_hop", [64, 441, 512])
@pytest.mark.parametrize(("hops", "fade_hops"), [(1, 0), (1, 1), (4, 1), (5, 3)])
def test_evaluated_spectral_frames_suffice_wherever_the_contribution_lies(stft_hop, hops, fade_hops):
    framing = WindowedFraming(10**6, hops * stft_hop, 40 * stft_hop, fade_hops * stft_hop, stft_hop)
    contribution = (hops + fade_hops) * stft_hop
    needed = max(
        windows_frames_touched(first, first + contribution, stft_hop, 2048) for first in range(5000, 5600)
    )
    assert needed <= framing.evaluated_spectral_frames <= needed + 1


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


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((0,), "hop of 0"),
        ((441, 441), "two or more whole hops"),
        ((441, 1000), "two or more whole hops"),
        ((441, 882, 0), "at least 1"),
        ((441, 882, 1, -1), "must not be negative"),
    ],
)
def test_causal_counts_that_do_not_fit_are_refused(counts, reason):
    with pytest.raises(FramingError, match=reason):
        CausalFraming(*counts)


def test_units():
    assert frames_to_ms(441, 44100) == 10.0
    assert ms_to_frames(10.0, 48000) == 480
    assert ms_to_frames(frames_to_ms(12345, 44100), 44100) == 12345
    assert db_to_gain(0.0) == 1.0 and db_to_gain(-math.inf) == 0.0
    assert db_to_gain(20.0) == pytest.approx(10.0)
    assert gain_to_db(0.0) == -math.inf
    assert gain_to_db(db_to_gain(-3.5)) == pytest.approx(-3.5)
