"""The streams that follow from settings: what is unseen in validation, and what a resumed run keeps."""

import dataclasses

import numpy as np
import pytest

from model.training.mix import parse_mix
from model.training.recordings import TrainingDataError
from model.training.settings import VALIDATION_SEED, training_stream, validation_stream
from model.training.songs import UNSEEN_SEED
from model.training.state import new_state, resumed, save_state
from model.training.train import validation_remarks
from tests.model.recorded import write_song
from tests.model.small_training import settings


def names(stream):
    return [song.name for song in stream.sources.songs]


def test_validation_takes_the_test_split_where_there_is_one(tmp_path):
    write_song(tmp_path / "songs/train/one")
    ready = settings(tmp_path, songs_dir=tmp_path / "songs")
    assert names(validation_stream(ready)) == names(training_stream(ready)) == ["train/one"]
    write_song(tmp_path / "songs/test/two")
    assert names(training_stream(ready)) == ["train/one"]
    assert names(validation_stream(ready)) == ["test/two"]


def test_validation_stands_in_for_what_its_split_lacks(tmp_path):
    """A mix of nothing but instrumentals, of which the test split has none."""
    for split in ("train", "test"):
        write_song(tmp_path / "songs" / split / split)
    mix = parse_mix("recorded=0,sequenced=0,synthetic=0,background=1")
    stream = validation_stream(settings(tmp_path, songs_dir=tmp_path / "songs", mix=mix))
    assert stream.item(0).stems.any()


def test_validation_items_are_the_same_every_time(tmp_path):
    ready = settings(tmp_path, songs_dir=write_song(tmp_path / "songs/one").parent)
    first, again = (validation_stream(ready).item(3).stems for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, training_stream(ready).item(3).stems)


@pytest.mark.parametrize("seed", [UNSEEN_SEED, VALIDATION_SEED])
def test_nobody_trains_on_the_test_songs(tmp_path, seed):
    with pytest.raises(TrainingDataError, match="choose another"):
        training_stream(settings(tmp_path, seed=seed))


def test_a_resumed_run_keeps_its_mix(tmp_path):
    ready = settings(tmp_path, mix=parse_mix("recorded=0.7,speech=0"))
    save_state(new_state(ready), ready)
    assert resumed(settings(tmp_path)).mix == ready.mix
    assert resumed(dataclasses.replace(ready)).mix == ready.mix


def test_a_resumed_run_keeps_its_recordings(tmp_path):
    """They are part of what is resumed: a run must not go on with others because an option was left out."""
    ready = dataclasses.replace(settings(tmp_path), songs_dir=tmp_path / "songs", bad_data="refuse")
    save_state(new_state(ready), ready)
    found = resumed(settings(tmp_path))
    assert (found.audio_dir, found.songs_dir, found.bad_data) == (None, tmp_path / "songs", "refuse")


def test_validation_says_that_it_hears_the_recordings_of_training(tmp_path):
    write_song(tmp_path / "songs/one")
    ready = settings(tmp_path, songs_dir=tmp_path / "songs", validate_every=5)
    (said,) = validation_remarks(ready)
    assert "the recordings are those of training" in said
    assert validation_remarks(dataclasses.replace(ready, validate_every=0)) == []


def test_bad_songs_of_the_test_split_are_named_or_refused(tmp_path):
    write_song(tmp_path / "songs/train/one")
    (write_song(tmp_path / "songs/test/two") / "bass.wav").write_bytes(b"nothing")
    ready = settings(tmp_path, songs_dir=tmp_path / "songs", validate_every=5)
    assert any("left out of validation" in line and "bass.wav" in line for line in validation_remarks(ready))
    with pytest.raises(TrainingDataError, match=r"bass\.wav"):
        validation_remarks(dataclasses.replace(ready, bad_data="refuse"))
