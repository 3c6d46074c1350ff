"""The engine cranked by hand: one process, no clock."""

import contextlib
import itertools

import numpy as np

from streaming.callback import Engine
from streaming.session import Session, SessionSpec
from streaming.snapshot import PLAN, RESIDUAL, neutral_controls
from streaming.worker import HopWorker

RATE_HZ = 44100
HOP = 441
STEMS = ("vocals", "drums", "bass")


@contextlib.contextmanager
def open_session(stem_names=STEMS, hop=HOP, stem_latency=2 * HOP, chained=(), capacity=100 * HOP, channels=2):
    chained = chained or (False,) * len(stem_names)
    session = Session.create(SessionSpec(RATE_HZ, channels, stem_names, hop, stem_latency, chained, capacity))
    try:
        yield session
    finally:
        session.close()
        session.unlink()


def publish_plan(session, epoch, latency):
    plan = np.zeros(1, PLAN)
    plan["epoch"], plan["latency_frames"] = epoch, latency
    session.plan.publish(plan)


def controls(mute=(), solo=(), gain=None, **fields):
    """A record: strips by index, gain {strip: linear gain}, and CONTROLS fields by name."""
    record = neutral_controls()
    record["strip_mute"][0, list(mute)] = 1
    record["strip_solo"][0, list(solo)] = 1
    for strip, value in (gain or {}).items():
        record["strip_gain"][0, strip] = value
    for name, value in fields.items():
        record[name] = value
    return record


def residual_muted(**fields):
    return controls(mute=[RESIDUAL], fallback_silence=1, **fields)


def blocks_of(total, sizes):
    """(first, end) of the blocks that cut `total` frames into `sizes`, a size or a list to go round in."""
    sizes = itertools.cycle([sizes] if isinstance(sizes, int) else sizes)
    first = 0
    while first < total:
        end = min(first + next(sizes), total)
        yield first, end
        first = end


def play(engine, signal, sizes, before=lambda first, end: None, after=lambda: None):
    """What the engine makes of `signal`; calls `before(first, end)` and `after()` around each block."""
    out = np.zeros((signal.shape[0], signal.shape[1]), np.float32)
    for first, end in blocks_of(signal.shape[1], sizes):
        before(first, end)
        engine.process(signal[:, first:end], out[:, first:end])
        after()
    return out


def crank(*workers):
    """Work until no worker has input, first worker first."""
    while sum(worker.step() for worker in workers):
        pass


def separator_worker(session, stage):
    return HopWorker(session.dry, session.raw, stage, session.health)


def delayed(signal, frames):
    """`signal` shifted by `frames`, zeros first, the same length."""
    shifted = np.zeros_like(signal)
    shifted[:, frames:] = signal[:, : signal.shape[1] - frames]
    return shifted


def noise(frames, seed=0, channels=2, level=0.3):
    return np.random.default_rng(seed).uniform(-level, level, (channels, frames)).astype(np.float32)


def engine_of(session):
    return Engine(session, range(session.spec.channels), range(session.spec.channels))


class PatchyStems:
    """Stems of which each block brings a random part: all, none, the beginning, the end or the middle.

    What was there is kept in `there` [stems, frames]. `before` goes to `play`.
    """

    def __init__(self, session, frames, latency, seed, wet_is_raw=True, level=0.3):
        self._session, self._latency = session, latency
        self._rng = np.random.default_rng(seed)
        shape = (session.spec.stems, session.spec.channels, frames)
        self.raw = self._rng.uniform(-level, level, shape).astype(np.float32)
        fresh = self._rng.uniform(-level, level, shape).astype(np.float32)
        chained = np.array(session.spec.chained)[:, None, None]
        self.wet = np.where(chained & (not wet_is_raw), fresh, self.raw)
        self.there = np.zeros((shape[0], frames), bool)

    def before(self, first, end):
        for s, chained in enumerate(self._session.spec.chained):
            there = self._write(self._session.raw[s], self.raw[s], first, end)
            if chained:
                there &= self._write(self._session.wet[s], self.wet[s], first, end)
            self.there[s, first:end] = there

    def _write(self, timeline, stem, first, end):
        """Write a part of what output frames [first, end) need; which of them it covers."""
        a, b = self._part(end - first)
        a, b = max(a, self._latency - first), max(b, self._latency - first)
        if b > a:
            start = first + a - self._latency
            timeline.write(start, np.ascontiguousarray(stem[:, start : start + b - a]))
        frames = np.arange(end - first)
        return (frames >= a) & (frames < b)

    def _part(self, frames):
        a, b = sorted(self._rng.integers(0, frames + 1, 2))
        weights = [0.6, 0.25, 0.05, 0.05, 0.05]
        return [(0, frames), (0, 0), (0, b), (a, frames), (a, b)][self._rng.choice(5, p=weights)]
