"""Streams that fail, for worker processes: light on imports."""

from model.training.sources import TrainingDataError


def no_stream():
    raise TrainingDataError("song.wav: gone")


class NoItems:
    def item(self, index):
        raise TrainingDataError("song.wav: gone")
