"""What test_training_ranks launches: a tiny training, in each process of a torchrun."""

import json
import os
import sys
from pathlib import Path

import torch

from model.training.dataset import ItemStream
from model.training.sources import TrainingDataError
from model.training.train import train
from tests.model.small_training import settings


def fail_at(rank, index):
    """Let one process fail at one of its items."""
    whole = ItemStream.item

    def item(stream, asked):
        if os.environ["RANK"] == str(rank) and asked >= index:
            raise TrainingDataError("song.wav: gone")
        return whole(stream, asked)

    ItemStream.item = item


def main(folder, changes):
    torch.set_num_threads(1)
    if "fail_rank" in changes:
        fail_at(changes.pop("fail_rank"), 2 * changes.pop("fail_step"))
    train(settings(Path(folder), **changes), lambda progress: print(progress.step, flush=True))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
