"""Records are taken whole or not at all, whatever happens to their writer."""

import subprocess
import sys
import time

import numpy as np
import pytest

from streaming.compiled import compiled
from streaming.segment import Segment
from streaming.snapshot import (
    CONTROLS,
    PLAN,
    SLOTS,
    Snapshot,
    neutral_controls,
    snapshot_publish,
    snapshot_sequence,
    snapshot_take,
)
from tests.streaming.snapshot_writer import FIELDS, WORDS, fill, publish_many


@pytest.fixture
def snapshot():
    segment = Segment.create(Snapshot.fields("plan", PLAN), {})
    yield Snapshot.of(segment, "plan", PLAN)
    segment.close()
    segment.unlink()


def plan_of(epoch):
    plan = np.zeros(1, PLAN)
    plan["epoch"], plan["latency_frames"] = epoch, 1000 + epoch
    return plan


def test_before_the_first_record_there_is_none(snapshot):
    assert snapshot.latest() is None
    assert snapshot.published == 0


def test_the_newest_record_counts(snapshot):
    for epoch in range(1, 2 * SLOTS + 1):
        snapshot.publish(plan_of(epoch))
        assert snapshot.latest() == plan_of(epoch)
        assert snapshot.published == epoch


def test_what_was_taken_is_a_copy(snapshot):
    snapshot.publish(plan_of(1))
    taken = snapshot.latest()
    for epoch in range(2, 9):
        snapshot.publish(plan_of(epoch))
    assert taken == plan_of(1)


def test_controls_come_back_field_by_field():
    segment = Segment.create(Snapshot.fields("controls", CONTROLS), {})
    record = neutral_controls()
    record["strip_gain"][0] = np.arange(16) / 7
    record["strip_mute"][0, 3] = record["strip_solo"][0, 15] = record["bypass"] = 1
    snapshot = Snapshot.of(segment, "controls", CONTROLS)
    snapshot.publish(record)
    assert snapshot.latest().tobytes() == record.tobytes()
    del snapshot
    segment.close()
    segment.unlink()


def memory():
    return np.zeros(8, np.int64), np.zeros((SLOTS, WORDS), np.int64), np.zeros((3, WORDS), np.int64)


def test_a_reader_keeps_what_it_has_until_something_new_is_there():
    header, slots, (words, mine, spare) = memory()
    publish_many(header, slots, words, 5)
    assert snapshot_take(header, slots, mine, spare, 0) == 5
    mine[:] = -1
    assert snapshot_take(header, slots, mine, spare, 5) == 5
    assert (mine == -1).all()


def test_a_writer_killed_while_it_fills_a_slot_spoils_nothing():
    header, slots, (words, mine, spare) = memory()
    publish_many(header, slots, words, 4)
    slots[5 % SLOTS, : WORDS // 2] = -7  # half of number 5 is written, then the end
    assert snapshot_take(header, slots, mine, spare, 0) == 4
    assert mine[0] == 4000 and mine[-1] == 4000 + WORDS - 1
    publish_many(header, slots, words, 1)
    assert snapshot_take(header, slots, mine, spare, 4) == 5
    assert (mine == 5000 + np.arange(WORDS)).all()


@compiled
def is_whole(words, number):
    whole = True
    for i in range(words.shape[0]):
        whole = whole and words[i] == number * 1000 + i
    return whole


@compiled
def take_many(header, slots, mine, spare, seen, counts, times):
    """Take records; counts those taken, not whole, refused and gone back in number. Returns the last."""
    for _ in range(times):
        number = snapshot_take(header, slots, mine, spare, seen)
        if number != seen:
            counts[0] += 1
            counts[1] += 0 if is_whole(mine, number) else 1
            counts[3] += 1 if number < seen else 0
        elif snapshot_sequence(header) != seen:
            counts[2] += 1
        seen = number
    return seen


def test_two_processes_and_a_writer_that_is_killed_and_replaced():
    segment = Segment.create(FIELDS, {})
    header, slots = segment.array("header"), segment.array("slots")
    mine, spare, counts, seen = *np.zeros((2, WORDS), np.int64), np.zeros(4, np.int64), 0
    for generation in range(1, 5):
        writer = subprocess.Popen([sys.executable, "-m", "tests.streaming.snapshot_writer", segment.name])
        deadline = time.monotonic() + 60
        while counts[0] < 10_000 * generation:
            assert writer.poll() is None and time.monotonic() < deadline
            seen = take_many(header, slots, mine, spare, seen, counts, 100_000)
        writer.kill()
        writer.wait()
    taken, torn, refused, backward = counts
    assert torn == backward == 0
    assert taken >= 40_000 and refused > 100
    last = snapshot_sequence(header)
    assert snapshot_take(header, slots, mine, spare, 0) == last and is_whole(mine, last)
    segment.close()
    segment.unlink()


def test_a_single_writer_numbers_its_records_one_by_one():
    header, slots, (words, _, _) = memory()
    for number in range(1, 10):
        fill(words, number)
        snapshot_publish(header, slots, words)
        assert snapshot_sequence(header) == number
