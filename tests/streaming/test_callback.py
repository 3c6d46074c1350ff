"""The engine cranked by hand: exact latency, what it starts from, channels, counters."""

import math
import sys

import numba
import numpy as np
import pytest

from streaming import health
from streaming.callback import ChannelMapError, Engine
from streaming.compiled import is_cached
from streaming.latency import buffering_frames
from streaming.separator import SignatureSeparator
from streaming.snapshot import RESIDUAL
from tests.streaming.rig import (
    HOP,
    RATE_HZ,
    STEMS,
    controls,
    crank,
    delayed,
    noise,
    open_session,
    play,
    publish_plan,
    residual_muted,
    separator_worker,
)

BLOCKS = (1, 64, 65, 128, 440, 441, 442, 1024, 1025)


def all_phases(block, hop):
    """Frames after which blocks and hops have met in every way."""
    return math.lcm(block, hop) + 4 * hop + 2 * block


def signature_run(signal, block, hop, short_of=0):
    """Output and health counters behind the signature separator with the first stem soloed."""
    stem_latency = 2 * hop
    # The work is done between two blocks.
    latency = stem_latency + buffering_frames(block, hop, 1) - short_of
    with open_session(hop=hop, stem_latency=stem_latency) as session:
        session.controls.publish(residual_muted(solo=[0]))
        publish_plan(session, 1, latency)
        stage = SignatureSeparator(RATE_HZ, STEMS, hop, stem_latency)
        worker = separator_worker(session, stage)
        out = play(Engine(session), signal, block, after=lambda: crank(worker))
        return out, latency, session.health.counters[health.CALLBACK].copy()


@pytest.mark.parametrize("hop", [441, 480])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_soloed_stem_comes_out_exactly_at_the_declared_latency(block, hop):
    signal = noise(all_phases(block, hop))
    out, latency, counters = signature_run(signal, block, hop)
    different = np.count_nonzero(out != delayed(0.5 * signal, latency))
    assert different == 0
    assert counters[health.LATE_HOPS] == counters[health.MISSING_FRAMES] == 0


@pytest.mark.parametrize("block", BLOCKS)
def test_an_impulse_comes_out_at_the_declared_latency(block):
    signal = np.zeros((2, 6000), np.float32)
    signal[:, 1234] = 1.0
    out, latency, _ = signature_run(signal, block, HOP)
    assert list(np.flatnonzero(out[0])) == [1234 + latency]


@pytest.mark.parametrize("hop", [441, 480])
@pytest.mark.parametrize("block", BLOCKS)
def test_one_frame_less_is_late(block, hop):
    _, _, counters = signature_run(noise(all_phases(block, hop)), block, hop, short_of=1)
    assert counters[health.LATE_HOPS] > 0
    assert counters[health.MISSING_FRAMES] > 0


def test_stems_carry_the_number_of_their_hop():
    with open_session() as session:
        session.controls.publish(residual_muted(solo=[2]))
        publish_plan(session, 1, 4 * HOP)
        stage = SignatureSeparator(RATE_HZ, STEMS, HOP, 2 * HOP)
        worker = separator_worker(session, stage)
        out = play(Engine(session), noise(30 * HOP), 128, after=lambda: crank(worker))
    hops = np.arange(30 * HOP) // HOP - 4
    expected = np.where(hops < 0, 0.0, (hops + 2) / 2048)  # worked one hop later, and counted from 1
    assert np.array_equal(out[0], expected.astype(np.float32))


def test_an_engine_that_finds_a_plan_plays_from_its_first_frame():
    signal = noise(4000)
    with open_session() as session:
        publish_plan(session, 3, 100)
        out = play(Engine(session), signal, 128)
        assert session.health.count(health.EPOCH) == 3
    assert np.array_equal(out, delayed(signal, 100))


def test_an_engine_that_finds_controls_starts_at_them_without_a_ramp():
    signal = noise(4000)
    with open_session() as session:
        session.controls.publish(controls(gain={RESIDUAL: 0.25}, output_gain=0.5, fallback_silence=1))
        publish_plan(session, 1, 0)
        out = play(Engine(session), signal, 64)
    assert np.array_equal(out, signal * np.float32(0.125))


def test_without_a_plan_it_is_silent_and_counts_nothing():
    with open_session() as session:
        out = play(Engine(session), noise(4000), 128)
        assert session.health.count(health.SILENT) == 1
        assert session.health.count(health.LATE_HOPS) == session.health.count(health.MISSING_FRAMES) == 0
    assert not out.any()


def test_frames_before_the_first_are_silence_and_not_late():
    with open_session() as session:
        publish_plan(session, 1, 3000)
        engine, frame = Engine(session), np.zeros((2, 1), np.float32)
        play(engine, noise(3000), [64, 1, 128])
        assert session.health.count(health.MISSING_FRAMES) == session.health.count(health.LATE_HOPS) == 0
        engine.process(frame, frame)
        assert session.health.count(health.MISSING_FRAMES) == session.health.count(health.LATE_HOPS) == 1


def test_channels_are_taken_and_given_by_map():
    signal = noise(2048, channels=4)
    with open_session() as session:
        publish_plan(session, 1, 0)
        engine = Engine(session, (3, 1), (2, 0), device_inputs=4, device_outputs=3)
        out = np.full((3, 2048), 9.0, np.float32)
        engine.process(signal, out)
    assert np.array_equal(out[2], signal[3])
    assert np.array_equal(out[0], signal[1])
    assert not out[1].any()


def test_a_mono_input_may_feed_both_channels():
    signal = noise(512, channels=1)
    with open_session() as session:
        publish_plan(session, 1, 0)
        out = np.zeros((2, 512), np.float32)
        Engine(session, (0, 0), (0, 1), device_inputs=1).process(signal, out)
    assert np.array_equal(out, np.repeat(signal, 2, axis=0))


@pytest.mark.parametrize(
    "maps", [((0, 2), (0, 1)), ((0, 1), (1, 2)), ((0,), (0, 1)), ((-1, 0), (0, 1)), ((0, 1), (0, 1, 1))]
)
def test_a_channel_that_the_device_has_not_is_refused(maps):
    with open_session() as session, pytest.raises(ChannelMapError, match="channels"):
        Engine(session, *maps)


@pytest.mark.parametrize("channels", [1, 8])
def test_any_number_of_channels_passes(channels):
    signal = noise(1500, channels=channels)
    with open_session(channels=channels) as session:
        publish_plan(session, 1, 7)
        engine = Engine(session, range(channels), range(channels), channels, channels)
        out = play(engine, signal, 65)
    assert np.array_equal(out, delayed(signal, 7))


def test_blocks_and_flags_are_counted():
    with open_session() as session:
        engine, count = Engine(session), session.health.count
        out = np.zeros((2, 2000), np.float32)
        for frames, flags in [(64, 0), (2000, 1), (65, 16), (128, 16 + 8)]:
            engine.process(noise(frames), out[:, :frames], flags)
        assert count(health.FRAME) == 64 + 2000 + 65 + 128
        assert (count(health.BLOCKS), count(health.BLOCK_MIN), count(health.BLOCK_MAX)) == (4, 64, 2000)
        assert count(health.XRUNS) == 2  # 16 is priming


def test_a_finished_hop_wakes_the_separator():
    with open_session() as session:
        engine, out = Engine(session), np.zeros((2, 440), np.float32)
        engine.process(noise(440), out)
        assert not session.wake_separator.wait(0)
        engine.process(noise(1), out[:, :1])
        assert session.wake_separator.wait(0)


def test_meters_show_input_stems_residual_and_output():
    with open_session() as session:
        session.controls.publish(controls(output_gain=0.5))
        publish_plan(session, 1, 0)
        engine, out = Engine(session), np.zeros((2, HOP), np.float32)
        session.raw[1].write(0, np.full((2, HOP), 0.25, np.float32))
        engine.process(np.full((2, HOP), 0.5, np.float32), out)
        peaks = session.health.peaks
        assert peaks[health.PEAK_INPUT] == 0.5
        assert peaks[health.PEAK_OUTPUT] == 0.25
        assert list(peaks[:3]) == [0.0, 0.25, 0.0]
        assert peaks[RESIDUAL] == pytest.approx(0.25, abs=1e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="page faults are counted on Unix only")
def test_the_callback_never_waits_for_a_page_of_memory():
    import resource

    signal = noise(4 * RATE_HZ)
    out = np.zeros_like(signal)
    with open_session(capacity=4 * RATE_HZ) as session:
        publish_plan(session, 1, 1000)
        engine = Engine(session)
        for first in range(0, 2 * 1024, 1024):  # the code itself, and what Python needs
            engine.process(signal[:, first : first + 1024], out[:, first : first + 1024])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for first in range(2 * 1024, signal.shape[1], 1024):
            engine.process(signal[:, first : first + 1024], out[:, first : first + 1024])
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 50  # the dry timeline alone has 345 pages


def test_it_is_cached_once_it_lies_in_the_cache(monkeypatch, tmp_path):
    mine = ("callback", "_stream_callback")
    assert is_cached(*mine)  # importing the callback compiled it
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "none"))
    assert not is_cached(*mine)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    (tmp_path / "timeline.timeline_write-100.py311.nbi").touch()
    assert not is_cached(*mine)
