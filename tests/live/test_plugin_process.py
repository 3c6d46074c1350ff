"""The plugin process over a real session: wet stems are the offline chain, failures stay with their stem."""

import json
import time

import numpy as np
import pedalboard
import pytest

from host.plugin_process import build_stages, build_workers, failure_reporter
from host.plugins import build_effect
from streaming.health import HOPS, INVALID_HOPS, JOINS, PLUGINS
from streaming.session import Session, SessionSpec
from tests.live.json_child import JsonChild

HOP = 441
STEMS = ("vocals", "drums", "bass")
CHAINS = {
    "bass": [{"plugin": "Compressor", "threshold_db": -30, "ratio": 4}, {"plugin": "BrickwallLimiter"}],
    "vocals": [{"plugin": "Gain", "gain_db": 24}, {"plugin": "Reverb", "room_size": 0.4}],
}
HELD = {"bass": 220, "vocals": 0}


@pytest.fixture
def session():
    session = Session.create(SessionSpec(44100, 2, STEMS, HOP, 882, (True, False, True), 200 * HOP))
    yield session
    session.close()
    session.unlink()


def noise(hops, seed):
    return (0.3 * np.random.default_rng(seed).standard_normal((2, hops * HOP))).astype(np.float32)


def feed(session, stem, audio, start=0):
    """Write whole hops as a separator does."""
    timeline = session.raw[STEMS.index(stem)]
    for at in range(0, audio.shape[1], HOP):
        timeline.write(start + at, np.ascontiguousarray(audio[:, at : at + HOP]))


def wet(session, stem, start, end):
    out = np.full((2, end - start), np.nan, np.float32)
    session.wet[STEMS.index(stem)].read(start, out)
    return out


def offline(stem, audio):
    return pedalboard.Pedalboard([build_effect(table) for table in CHAINS[stem]])(audio, 44100)


class Child(JsonChild):
    """A plugin process."""

    def __init__(self, session, chains):
        super().__init__("host.plugin_process", {"chains": chains}, session)
        self.session = session

    def work_to(self, **ends):
        """Wake it until the wet stems reach these frames."""
        deadline = time.monotonic() + 30
        while any(self.session.wet[STEMS.index(stem)].end < end for stem, end in ends.items()):
            assert time.monotonic() < deadline, "the wet stems stand still"
            self.session.wake_plugins.post()
            time.sleep(0.005)


def test_wet_stems_are_the_offline_chains_to_the_bit(session):
    audio = {stem: noise(60, seed) for seed, stem in enumerate(CHAINS)}
    end = 60 * HOP
    with Child(session, CHAINS) as child:
        assert child.first == {"event": "ready", "held_frames": HELD}
        for stem, raw in audio.items():
            feed(session, stem, raw)
        child.work_to(vocals=end, bass=end - HELD["bass"])
        for stem, raw in audio.items():
            last = end - HELD[stem]
            assert np.array_equal(wet(session, stem, 0, last), offline(stem, raw)[:, :last])
        assert session.wet[STEMS.index("drums")].end == 0
        assert session.health.seconds_since_beat(PLUGINS) < float("inf")
        assert child.leave() == (0, "")


def test_a_killed_process_is_replaced_by_one_that_joins_at_the_current_hop(session):
    raw = noise(40, 5)
    with Child(session, CHAINS) as child:
        feed(session, "vocals", raw[:, : 20 * HOP])
        child.work_to(vocals=20 * HOP)
    with Child(session, CHAINS) as child:
        feed(session, "vocals", raw[:, 20 * HOP :], 20 * HOP)
        child.work_to(vocals=40 * HOP)
        expected = offline("vocals", raw[:, 19 * HOP :])  # from the newest whole hop on
        assert np.array_equal(wet(session, "vocals", 19 * HOP, 40 * HOP), expected)


def crank(workers):
    while sum(worker.step() for worker in workers):
        pass


def workshop(session):
    stages = build_stages(session, CHAINS)
    return stages, build_workers(session, stages)


def test_a_chain_that_overflows_stops_only_its_own_stem_and_comes_back(session):
    _, workers = workshop(session)
    raw = {stem: noise(60, seed) for seed, stem in enumerate(CHAINS)}
    raw["vocals"][:, 20 * HOP : 21 * HOP] = 3e38
    counters = session.health.counters[PLUGINS]
    for hop in range(60):
        for stem, audio in raw.items():
            feed(session, stem, audio[:, hop * HOP : (hop + 1) * HOP], hop * HOP)
        crank(workers)
    assert counters[INVALID_HOPS] == 1
    assert counters[HOPS] == 2 * 60 - 1
    end = 60 * HOP
    assert np.array_equal(wet(session, "bass", 0, end - 220), offline("bass", raw["bass"])[:, : end - 220])
    start = 21 * HOP
    assert np.isnan(wet(session, "vocals", 0, end)[:, :start]).all()
    assert np.array_equal(wet(session, "vocals", start, end), offline("vocals", raw["vocals"][:, start:]))


class Broken:
    """Instead of a pedalboard: raises."""

    def reset(self):
        pass

    def process(self, block, rate, reset):
        raise ValueError("not today")


def test_a_chain_that_raises_stops_only_its_own_stem_and_is_told_of_once(session, capsys):
    stages, workers = workshop(session)
    stages[1]._board = Broken()
    report = failure_reporter(stages)
    for hop in range(4):
        for stem in CHAINS:
            feed(session, stem, noise(1, hop), hop * HOP)
        crank(workers)
        report()
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "event": "failed",
        "stem": "vocals",
        "reason": "the chain of vocals failed: not today",
    }
    counters = session.health.counters[PLUGINS]
    assert (counters[HOPS], counters[INVALID_HOPS], counters[JOINS]) == (4, 4, 2)
    assert session.wet[STEMS.index("bass")].end == 4 * HOP - HELD["bass"]
    assert session.wet[STEMS.index("vocals")].end == 0


def test_a_new_run_of_the_separator_is_followed(session):
    _, workers = workshop(session)
    raw = noise(10, 2)
    feed(session, "vocals", raw)
    crank(workers)
    feed(session, "vocals", raw[:, :HOP], 50 * HOP)
    crank(workers)
    feed(session, "vocals", raw[:, HOP:], 51 * HOP)
    crank(workers)
    assert np.array_equal(wet(session, "vocals", 50 * HOP, 60 * HOP), offline("vocals", raw))


@pytest.mark.parametrize(
    ("chains", "reason"),
    [
        ({}, "chains are for [], the session expects ['bass', 'vocals']"),
        ({"drums": CHAINS["bass"]}, "chains are for ['drums']"),
        ({**CHAINS, "bass": [{"plugin": "Nope"}]}, "there is no effect 'Nope'"),
    ],
)
def test_chains_that_do_not_fit_the_session_end_in_one_error_event(session, chains, reason):
    with Child(session, chains) as child:
        assert child.first["event"] == "error" and reason in child.first["reason"]
        assert child.leave() == (2, "")
