"""A writer for test_snapshot: publishes records whose every word follows from their number, until killed."""

import sys

import numpy as np

from streaming.compiled import compiled
from streaming.segment import Field, Segment
from streaming.snapshot import HEADER_WORDS, SLOTS, snapshot_publish, snapshot_sequence

WORDS = 256
FIELDS = [Field("header", (HEADER_WORDS,), "int64"), Field("slots", (SLOTS, WORDS), "int64")]


@compiled
def fill(words, number):
    for i in range(words.shape[0]):
        words[i] = number * 1000 + i


@compiled
def publish_many(header, slots, words, times):
    for _ in range(times):
        number = snapshot_sequence(header) + 1
        for _ in range(
            1 + number * 7919 % 13
        ):  # so that readers meet it in the copy, before it and behind it
            fill(words, number)
        snapshot_publish(header, slots, words)


if __name__ == "__main__":
    segment = Segment.attach(sys.argv[1])
    words = np.zeros(WORDS, np.int64)
    while True:
        publish_many(segment.array("header"), segment.array("slots"), words, 1_000_000)
