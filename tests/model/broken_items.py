"""Streams that fail, or whose owner does: light on imports, for worker processes."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from model.training.dataset import Item
from model.training.prefetch import batches
from model.training.sources import TrainingDataError


def no_stream():
    raise TrainingDataError("song.wav: gone")


class NoItems:
    def item(self, index):
        raise TrainingDataError("song.wav: gone")


class Signed:
    """Leaves the number of its process in a file."""

    def __init__(self, path):
        Path(path).write_text(str(os.getpid()))

    def item(self, index):
        return Item(np.zeros((4, 2, 64), dtype=np.float32), True)


if __name__ == "__main__":
    next(batches(partial(Signed, sys.argv[1]), (range(n, n + 1) for n in range(9)), 64, workers=1))
    time.sleep(600)  # until somebody kills it
