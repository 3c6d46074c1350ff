"""What ideal masks of left and right reach beside those of mid and side."""

import numpy as np
import pytest

from benchmarks.mask_domains import DOMAINS, FRAMES_ON_END, scores_of
from model.training.evaluate import HeldOutSong
from model.training.songs import STEM_NAMES
from tests.model.builders import noise

FRAMES = 44100


def scored(voice: np.ndarray, band: np.ndarray) -> dict[str, list[float]]:
    stems = np.stack([voice, np.zeros_like(voice), np.zeros_like(voice), band])
    scores = scores_of(HeldOutSong("made up", stems, STEM_NAMES))
    return {name: scores[place :: len(DOMAINS)] for place, name in enumerate(DOMAINS)}


@pytest.mark.parametrize(
    ("voice_sides", "band_sides", "better"),
    [((1, 1), (1, -1), "mid, side"), ((1, -1), (1, 1), "mid, side"), ((1, 0), (0, 1), "left, right")],
)
def test_masks_separate_what_their_domain_keeps_apart(voice_sides, band_sides, better) -> None:
    sounds = noise(2, FRAMES)
    scores = scored(
        *(np.outer(sides, x).astype("f") for sides, x in zip((voice_sides, band_sides), sounds, strict=True))
    )
    (worse,) = set(DOMAINS) - {better}
    assert len(scores[better]) == len(FRAMES_ON_END)
    assert min(scores[better]) > 60
    assert max(scores[worse]) < 10


def test_shorter_gains_know_more() -> None:
    fading = np.linspace(0, 1, FRAMES, dtype="f") * noise(2, FRAMES)
    for scores in scored(fading, 0.3 * noise(4, FRAMES)[2:]).values():
        assert scores == sorted(scores, reverse=True)
