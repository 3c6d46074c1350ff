"""The worker's loop by hand: joining, losing its place, what it throws away, what it may publish."""

import numpy as np
import pytest

from streaming.callback import Engine
from streaming.health import HOPS, INVALID_HOPS, JOINS, LATE_HOPS, PLUGINS, SEPARATOR, Health
from streaming.latency import buffering_frames
from streaming.separator import SignatureSeparator
from streaming.timeline import HEADER_WORDS, Timeline
from streaming.worker import PATIENCE_HOPS, HopWorker, run
from tests.streaming.rig import (
    HOP,
    RATE_HZ,
    STEMS,
    blocks_of,
    crank,
    delayed,
    noise,
    open_session,
    play,
    publish_plan,
    residual_muted,
    separator_worker,
)

CAPACITY = 100 * HOP


class Delay:
    """A stage with one stem: its input, `latency_frames` later; `steps` may spoil hops by their number."""

    sample_rate_hz = RATE_HZ
    stem_names = ("vocals",)

    def __init__(self, latency_frames=2 * HOP, hop_frames=HOP, spoil=()):
        self.hop_frames = self.window_frames = hop_frames
        self.latency_frames = latency_frames
        self.spoil, self.resets, self.hops = set(spoil), 0, 0
        self.reset()

    def warm_up(self):
        self.reset()

    def reset(self):
        self._line = np.zeros((2, self.latency_frames - self.hop_frames), np.float32)
        self.resets += 1

    def separate(self, mixture, stems_out):
        self._line = np.concatenate([self._line, mixture], axis=1)
        stems_out[0], self._line = self._line[:, : self.hop_frames], self._line[:, self.hop_frames :]
        if self.hops in self.spoil:
            stems_out[0, 1, 7] = np.nan
        self.hops += 1

    def close(self):
        pass


class Windowed:
    """A windowed stage with a fade: look-ahead A, contribution [e - A - X - H, e - A) of the input itself."""

    sample_rate_hz = RATE_HZ
    stem_names = ("vocals",)

    def __init__(self, window_frames=4096, hop_frames=HOP, lookahead_frames=1024, fade_frames=100):
        self.window_frames, self.hop_frames, self.fade_frames = window_frames, hop_frames, fade_frames
        self.lookahead_frames = lookahead_frames
        self.latency_frames = lookahead_frames + fade_frames + hop_frames
        self.resets = 0

    def warm_up(self):
        pass

    def reset(self):
        self.resets += 1

    def separate(self, mixture, stems_out):
        last = self.window_frames - self.lookahead_frames
        stems_out[0] = mixture[:, last - self.fade_frames - self.hop_frames : last]

    def close(self):
        pass


def timeline(capacity=CAPACITY):
    return Timeline(np.zeros(HEADER_WORDS, np.int64), np.zeros((2, capacity), np.float32))


def health():
    return Health(*(np.zeros(field.shape, field.dtype) for field in Health.fields()))


class Bench:
    """A worker between two timelines, and the signal that goes in."""

    def __init__(self, stage, frames=60 * HOP, phase=0, capacity=CAPACITY, role=SEPARATOR):
        self.signal = noise(frames, 3)
        self.source, self.sink, self.health = timeline(capacity), timeline(), health()
        self.stage, self.phase, self.role = stage, phase, role
        self.worker = self.new_worker()

    def new_worker(self):
        return HopWorker(self.source, [self.sink], self.stage, self.health, self.role, self.phase)

    def feed(self, first, end):
        self.source.write(first, np.ascontiguousarray(self.signal[:, first:end]))

    def feed_hops(self, first_hop, end_hop):
        for hop in range(first_hop, end_hop):
            self.feed(hop * HOP, (hop + 1) * HOP)
            crank(self.worker)

    def count(self, column):
        return int(self.health.counters[self.role, column])

    def assert_published(self, start, end):
        """The sink holds exactly the input frames [start, end)."""
        assert (self.sink.start, self.sink.end) == (start, end)
        out = np.zeros((2, end - start), np.float32)
        assert self.sink.read(start, out) == (0, end - start)
        assert np.array_equal(out, self.signal[:, start:end])


@pytest.mark.parametrize("block", [1, 64, 65, 128, HOP - 1, HOP, HOP + 1, 1025])
@pytest.mark.parametrize("latency", [HOP, 2 * HOP, 1000])
def test_every_hop_lands_on_its_frames(block, latency):
    bench = Bench(Delay(latency), frames=12 * HOP)
    for first, end in blocks_of(12 * HOP, block):
        bench.feed(first, end)
        crank(bench.worker)
    bench.assert_published(0, 13 * HOP - latency)
    assert bench.count(HOPS) == 12
    assert bench.count(JOINS) == bench.stage.resets - 1 == 1


@pytest.mark.parametrize("phase", [0, 1, 118, HOP - 1])
def test_hops_lie_on_the_grid_of_their_phase(phase):
    bench = Bench(Delay(HOP), phase=phase)
    bench.feed(0, 10 * HOP)
    worker = bench.new_worker()
    bench.feed(10 * HOP, 12 * HOP)
    crank(worker)
    assert (bench.sink.start - phase) % HOP == (bench.sink.end - phase) % HOP == 0
    assert 9 * HOP <= bench.sink.start < 10 * HOP
    bench.assert_published(bench.sink.start, (11 if phase else 12) * HOP + phase)


def test_who_joins_a_stream_publishes_only_what_its_input_explains():
    bench = Bench(Delay(1000))
    bench.feed(0, 20 * HOP + 5)
    bench.worker = bench.new_worker()
    for first in range(20 * HOP + 5, 40 * HOP, 128):
        bench.feed(first, min(first + 128, 40 * HOP))
        crank(bench.worker)
    bench.assert_published(20 * HOP, 41 * HOP - 1000)


def test_a_worker_that_joins_does_not_step_before_a_whole_hop_is_there():
    bench = Bench(Delay(HOP))
    bench.feed(0, HOP - 1)
    assert not bench.worker.step()
    bench.feed(HOP - 1, HOP)
    assert bench.worker.step()
    assert not bench.worker.step()


def test_a_run_that_begins_is_joined_at_its_first_whole_hop():
    bench = Bench(Delay(2 * HOP))
    bench.feed_hops(0, 5)
    bench.feed(10 * HOP - 7, 11 * HOP)  # the source lost frames
    crank(bench.worker)
    bench.feed_hops(11, 15)
    bench.assert_published(10 * HOP, 14 * HOP)
    assert bench.count(JOINS) == 2


def test_a_worker_that_was_overtaken_joins_again():
    bench = Bench(Delay(2 * HOP), capacity=8 * HOP)
    bench.feed_hops(0, 5)
    bench.feed(5 * HOP, 12 * HOP)
    bench.feed(12 * HOP, 19 * HOP)  # hop 5 is overwritten
    crank(bench.worker)
    bench.feed_hops(19, 25)
    assert bench.count(JOINS) == 2
    bench.assert_published(18 * HOP, 24 * HOP)


@pytest.mark.parametrize(("behind", "joins"), [(PATIENCE_HOPS, 1), (PATIENCE_HOPS + 2, 2)])
def test_who_is_hopelessly_late_joins_again_and_who_is_not_catches_up(behind, joins):
    bench = Bench(Delay(HOP), frames=100 * HOP)
    bench.feed_hops(0, 5)
    bench.feed(5 * HOP, (5 + behind) * HOP)
    crank(bench.worker)
    assert bench.count(JOINS) == joins
    bench.assert_published(0 if joins == 1 else (4 + behind) * HOP, (5 + behind) * HOP)


def test_patience_may_be_shorter():
    bench = Bench(Delay(HOP))
    worker = HopWorker(bench.source, [bench.sink], bench.stage, bench.health, patience_frames=lambda: 3 * HOP)
    bench.feed(0, 4 * HOP)
    assert worker.step() and bench.count(JOINS) == 2  # 3 hops behind the first
    bench.feed(4 * HOP, 9 * HOP)
    assert worker.step() and bench.count(JOINS) == 3
    bench.assert_published(8 * HOP, 9 * HOP)


def test_a_hop_that_is_not_finite_is_thrown_away_counted_and_forgotten():
    bench = Bench(Delay(2 * HOP, spoil=[6]))
    bench.feed_hops(0, 7)
    bench.assert_published(0, 5 * HOP)  # hops 0 to 5 were good, and come a hop later
    assert bench.count(INVALID_HOPS) == 1 and bench.count(HOPS) == 6
    resets = bench.stage.resets
    bench.feed_hops(7, 12)
    bench.assert_published(7 * HOP, 11 * HOP)  # fresh from the next hop on, none is skipped
    assert bench.stage.resets == resets and bench.count(HOPS) == 11


def test_where_every_hop_is_bad_each_is_tried_once():
    bench = Bench(Delay(HOP, spoil=range(1000)))
    bench.feed(0, 20 * HOP)
    crank(bench.worker)
    assert bench.stage.hops == bench.count(INVALID_HOPS) == 20
    assert bench.sink.end == 0


@pytest.mark.parametrize("fade", [0, 1, 100, HOP])
@pytest.mark.parametrize("block", [128, HOP, 1025])
def test_a_windowed_stage_with_a_fade_gives_back_its_input(fade, block):
    stage = Windowed(fade_frames=fade)
    bench = Bench(stage, frames=20 * HOP)
    for first, end in blocks_of(20 * HOP, block):
        bench.feed(first, end)
        crank(bench.worker)
    bench.assert_published(0, 21 * HOP - stage.latency_frames)


def test_a_windowed_stage_that_joins_late_uses_what_its_window_still_sees():
    stage = Windowed()
    bench = Bench(stage)
    bench.feed(0, 30 * HOP)
    bench.worker = bench.new_worker()
    crank(bench.worker)
    bench.assert_published(30 * HOP - stage.latency_frames, 30 * HOP - stage.latency_frames + HOP)


def test_a_stage_that_raises_is_not_hidden():
    class Broken(Delay):
        def separate(self, mixture, stems_out):
            raise ArithmeticError("no")

    bench = Bench(Broken())
    bench.feed(0, HOP)
    with pytest.raises(ArithmeticError, match="no"):
        bench.worker.step()


def test_other_roles_count_their_hops_too():
    bench = Bench(Delay(HOP), role=PLUGINS)
    bench.feed_hops(0, 5)
    assert bench.count(HOPS) == 5 and bench.health.counters[SEPARATOR].sum() == 0


def test_chained_stems_come_out_at_the_longer_latency():
    """Separator, then a plugin chain that holds 300 frames; exact at the sum."""
    signal, held, block = noise(60 * HOP), 300, 128
    latency = 2 * HOP + held + buffering_frames(block, HOP, 1)
    with open_session(chained=(True, False, False)) as session:
        session.controls.publish(residual_muted(solo=[0]))
        publish_plan(session, 1, latency)
        stage = SignatureSeparator(RATE_HZ, STEMS, HOP, 2 * HOP)
        separator = separator_worker(session, stage)
        chain = HopWorker(
            session.raw[0],
            session.wet[:1],
            Delay(HOP + held),
            session.health,
            PLUGINS,
            session.spec.hop_phase_frames,
        )
        out = play(Engine(session), signal, block, after=lambda: crank(separator, chain))
        assert session.health.count(LATE_HOPS) == 0
    assert np.array_equal(out, delayed(signal * np.float32(0.5), latency))


def test_a_separator_that_is_replaced_is_late_for_a_while_and_exact_again():
    signal, block = noise(120 * HOP), 128
    latency = 2 * HOP + buffering_frames(block, HOP, 1)
    workers = []

    def new_separator(session):
        workers[:] = [separator_worker(session, SignatureSeparator(RATE_HZ, STEMS, HOP, 2 * HOP))]

    with open_session() as session:
        session.controls.publish(residual_muted(solo=[0]))
        publish_plan(session, 1, latency)
        new_separator(session)

        def before(first, end):
            if 40 * HOP <= first < 40 * HOP + block:
                workers.clear()
            if 60 * HOP <= first < 60 * HOP + block:
                new_separator(session)

        out = play(Engine(session), signal, block, before, lambda: crank(*workers))
        late = session.health.count(LATE_HOPS)
        assert session.health.counters[SEPARATOR, JOINS] == 2
    expected = delayed(signal * np.float32(0.5), latency)
    fade = 2 * HOP
    assert np.array_equal(out[:, : 40 * HOP], expected[:, : 40 * HOP])
    assert not out[:, 40 * HOP + latency + fade : 60 * HOP].any()
    back = slice(60 * HOP + latency + fade, None)
    assert np.array_equal(out[:, back], expected[:, back])
    assert 19 <= late <= 22


def test_the_loop_works_beats_and_tells_until_it_is_stopped():
    bench, told = Bench(Delay(HOP)), []

    class Wakes:
        """Brings one hop a wait, and the end with the fifth."""

        waits = 0

        def wait(self, timeout_s):
            assert 0 < timeout_s <= 0.1
            bench.feed(self.waits * HOP, (self.waits + 1) * HOP)
            self.waits += 1
            return True

    wakes = Wakes()
    run([bench.worker], wakes, lambda: len(told) == 5, lambda: told.append(bench.sink.end))
    assert told == [HOP * hop for hop in range(1, 6)]
    assert bench.health.seconds_since_beat(SEPARATOR) < 60
