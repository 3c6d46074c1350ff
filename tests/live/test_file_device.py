"""The file device loses nothing; the separator's worker runs beside it in the same process."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from host.file_device import (
    Aligned,
    Collector,
    FileDevice,
    FileDeviceError,
    WallClock,
    WrittenStems,
    with_tail,
)
from streaming.callback import Engine
from streaming.health import LATE_HOPS
from streaming.latency import buffering_frames
from streaming.separator import Audio, SignatureSeparator
from streaming.session import Session, SessionSpec
from streaming.snapshot import PLAN
from streaming.worker import HopWorker, run

HOP, SEPARATION = 441, 882


@pytest.fixture
def session() -> Iterator[Session]:
    names = SignatureSeparator(44100).stem_names
    spec = SessionSpec(44100, 2, names, HOP, SEPARATION, (False,) * len(names), 40 * HOP)
    made = Session.create(spec)
    yield made
    made.close()
    made.unlink()


def declare(session: Session, block: int) -> int:
    latency = SEPARATION + buffering_frames(block, HOP, 1)
    plan = np.zeros(1, PLAN)
    plan["epoch"], plan["latency_frames"] = 1, latency
    session.plan.publish(plan)
    return latency


@pytest.fixture
def at_work(session: Session) -> Iterator[None]:
    left = threading.Event()
    stage = SignatureSeparator(44100)
    stage.warm_up()
    worker = HopWorker(session.dry, session.raw, stage, session.health)
    thread = threading.Thread(target=run, args=([worker], session.wake_separator, left.is_set))
    thread.start()
    yield
    left.set()
    session.wake_separator.post()
    thread.join()


def noise(frames: int) -> Audio:
    return (0.2 * np.random.default_rng(1).standard_normal((2, frames))).astype(np.float32)


@pytest.mark.parametrize("block", [64, 65, 128, HOP - 1, HOP, HOP + 1, 1024])
def test_as_fast_as_it_goes_nothing_is_late(session: Session, at_work: None, block: int) -> None:
    audio = noise(30_000)
    latency = declare(session, block)
    collector = Collector()
    device = FileDevice(
        Engine(session),
        with_tail(audio, latency),
        block,
        WrittenStems(session),
        on_output=Aligned(collector, latency, audio.shape[1]),
    )
    assert device.run() == audio.shape[1] + latency
    assert session.health.count(LATE_HOPS) == 0
    assert np.array_equal(collector.audio, audio)  # unity gains: the law gives the input back
    assert session.raw[0].end > audio.shape[1]


def test_without_a_separator_it_gives_up_in_one_line(session: Session) -> None:
    declare(session, 128)
    with pytest.raises(FileDeviceError, match=r"No stems came for 0\.05 s") as caught:
        FileDevice(Engine(session), noise(10_000), 128, WrittenStems(session, patience_s=0.05)).run()
    assert "\n" not in str(caught.value)


def test_before_the_first_epoch_there_is_nothing_to_wait_for(session: Session) -> None:
    assert FileDevice(Engine(session), noise(5000), 128, WrittenStems(session)).run() == 5000


def test_it_can_be_stopped_and_tells_how_far_it_came(session: Session) -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if done == 300:
            device.stop()

    device = FileDevice(Engine(session), noise(1000), 100, WrittenStems(session), on_progress=progress)
    assert device.run() == 300
    assert told == [(100, 1000), (200, 1000), (300, 1000)]


def test_the_last_block_is_filled_with_silence(session: Session) -> None:
    device = FileDevice(Engine(session), noise(150), 100, WrittenStems(session))
    device.run()
    heard = np.ones((2, 200), np.float32)
    assert session.dry.read(0, heard) == (0, 200)
    assert np.array_equal(heard[:, :150], noise(150)) and not heard[:, 150:].any()


def test_the_clock_gives_every_block_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [10.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    monkeypatch.setattr("host.file_device.time.monotonic", lambda: now[0])
    monkeypatch.setattr("host.file_device.time.sleep", sleep)
    clock = WallClock(1000)
    for working_s in (0.02, 0.15, 0.02, 0.0):
        clock.wait(100)
        now[0] += working_s
    assert slept == [0.08, 0.03]  # the second block took 50 ms too long; the third came at once and caught up


def test_only_frames_of_the_input_pass_the_aligned_sink() -> None:
    collector = Collector()
    sink = Aligned(collector, 150, 130)
    ramp = np.arange(400, dtype=np.float32)[None]
    for start in range(0, 400, 100):
        sink(ramp[:, start : start + 100])
    assert np.array_equal(collector.audio, ramp[:, 150:280])


def test_a_block_without_frames_is_refused(session: Session) -> None:
    with pytest.raises(ValueError, match="A block of 0 frames"):
        FileDevice(Engine(session), noise(10), 0, WrittenStems(session))
