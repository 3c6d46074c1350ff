"""Writer and reader of the timeline stress; as a script, the writer.

What a frame holds follows from its number and its epoch, so torn or stale audio cannot pass.
"""

import sys

import numpy as np

from streaming.compiled import compiled
from streaming.segment import Segment
from streaming.timeline import EPOCH, timeline_end, timeline_epoch, timeline_read, timeline_write

CAPACITY = 16384
MAX_BLOCK = 8192


@compiled
def scrambled(number):
    number = (number ^ (number >> 15)) * 0x2C1B3C6D
    number = (number ^ (number >> 12)) * 0x297A2D39
    return (number ^ (number >> 15)) & 0x7FFFFFFF


@compiled
def sample(frame, epoch, channel):
    # 24 bits: exact in float32.
    return np.float32(scrambled(frame * 31 + epoch * 1_000_003 + channel * 77_777) & 0xFFFFFF)


@compiled
def write_until(header, data, block, written, seed, last):
    """Write blocks of scrambled sizes until `last` frames were written; now and then open a new run."""
    while written[0] < last:
        seed = scrambled(seed + 1)
        frames = 1 + seed % MAX_BLOCK
        frame = timeline_end(header)
        if seed % 13 == 0:
            frame += seed % 40_000 - 20_000
        opens = frame != timeline_end(header) or header[EPOCH] & 1
        epoch = timeline_epoch(header) + (1 if opens else 0)
        for channel in range(2):
            for i in range(frames):
                block[channel, i] = sample(frame + i, epoch, channel)
        timeline_write(header, data, frame, block, frames)
        written[0] += frames


@compiled
def wrong_frames(out, frame, valid_from, valid_to, epoch):
    wrong = 0
    for channel in range(2):
        for i in range(valid_from, valid_to):
            wrong += out[channel, i] != sample(frame + i, epoch, channel)
    return wrong


@compiled
def read_and_check(header, data, out, seed, reads, counts):
    """Read at scrambled places, mostly where the writer overwrites next; counts reads, frames, wrong, cut."""
    for _ in range(reads):
        seed = scrambled(seed + 1)
        frames = 1 + seed % out.shape[1]
        frame = timeline_end(header) - CAPACITY + seed % 3000 - 1000
        oldest = timeline_epoch(header)
        valid_from, valid_to = timeline_read(header, data, frame, out, frames)
        newest = timeline_epoch(header)
        # One epoch for all frames of a read; which one is sure only where no run began meanwhile.
        wrong = wrong_frames(out, frame, valid_from, valid_to, oldest)
        for epoch in range(oldest + 1, newest + 1):
            wrong = min(wrong, wrong_frames(out, frame, valid_from, valid_to, epoch))
        counts[0] += 1
        counts[1] += valid_to - valid_from
        counts[2] += wrong
        counts[3] += valid_to - valid_from < frames
    return seed


def main():
    segment = Segment.attach(sys.argv[1])
    block = np.empty((2, MAX_BLOCK), np.float32)
    header, data, written = (segment.array(name) for name in ("header", "data", "written"))
    write_until(header, data, block, written, int(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    main()
