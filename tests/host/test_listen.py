"""The page of the held-out songs holds what is known of each, and nothing else."""

import numpy as np

from benchmarks.listen import heard
from model.training.evaluate import PHRASES, HeldOutSong
from tests.model.builders import random_model


def test_only_stems_whose_truth_is_known_are_played() -> None:
    stems = 0.1 * np.random.default_rng(0).standard_normal((4, 2, 22_050)).astype(np.float32)
    song = heard(random_model(), HeldOutSong("phrases", stems, ("vocals",), PHRASES))
    assert (song.title, song.rate_hz) == ("phrases", 44_100)
    assert [sound.title for sound in song.sounds] == ["mix", "vocals", "accompaniment"]
    _, vocals, backing = song.sounds
    np.testing.assert_array_equal(vocals.truth, stems[0])
    np.testing.assert_allclose(backing.truth, stems[1:].sum(axis=0), atol=1e-6)
    np.testing.assert_allclose(vocals.audio + backing.audio, stems.sum(axis=0), atol=1e-6)
