"""The published augmentations: levels, silences, places and songs."""

import numpy as np
import pytest

from model.training.dataset import Pool
from model.training.published_mix import PublishedItemStream
from model.training.recordings import to_pcm
from model.training.songs import STEM_NAMES
from model.training.sources import Sources, StemSong

FRAMES = 8192
LEVEL = 0.1


def tone(hz, frames=6 * FRAMES):
    """Silent for the first half, then a tone: segments in the silence must not be taken."""
    t = np.arange(frames)
    sound = LEVEL * np.sqrt(2) * np.sin(2 * np.pi * hz / 44_100 * t) * (t >= frames // 2)
    return to_pcm(np.stack([sound, sound]).astype(np.float32))


def song(name, first_hz, stems=STEM_NAMES):
    return StemSong(name, {stem: tone(first_hz + 100 * place) for place, stem in enumerate(stems)})


def items(tmp_path, songs, count=300):
    stream = PublishedItemStream(Sources(songs=songs), tmp_path, 3, FRAMES, Pool(1, 1.0))
    return [stream.item(index) for index in range(count)]


@pytest.fixture(scope="module")
def two_songs(tmp_path_factory):
    return items(tmp_path_factory.mktemp("cache"), [song("low", 300), song("high", 5000)])


def test_a_tenth_of_all_stems_is_silence(two_songs):
    silent = np.mean([not stem.any() for item in two_songs for stem in item.stems])
    assert 0.07 < silent < 0.13


def test_stems_sound_within_3_db_of_their_recording(two_songs):
    full = [stem[0] for item in two_songs for stem in item.stems if np.abs(stem[0, :64]).max() > 0.01]
    gains = [20 * np.log10(np.sqrt(np.mean(stem**2)) / LEVEL) for stem in full]
    assert -3.1 < min(gains) < -2.5
    assert 2.5 < max(gains) < 3.1


def is_high(stem):
    """Whether a tone is of the song named high."""
    return bool(np.abs(np.diff(stem[0])).sum() > 0.3 * np.abs(stem[0]).sum())


def test_stems_of_one_item_are_of_any_songs(two_songs):
    kinds = [{is_high(stem) for stem in item.stems if stem.any()} for item in two_songs]
    assert 0.7 < np.mean([len(found) == 2 for found in kinds]) < 1.0
    assert all(item.split for item in two_songs)


def test_songs_without_bass_give_vocals_and_drums_only(tmp_path):
    part = song("part", 5000, ("vocals", "drums", "other"))
    made = items(tmp_path, [song("whole", 300), part], 40)
    assert not any(is_high(item.stems[3]) for item in made if item.stems[3].any())
    assert any(is_high(item.stems[0]) for item in made if item.stems[0].any())


def test_a_song_that_nobody_sings_lends_its_other_stems_alone(tmp_path):
    sung, played = song("sung", 300), song("played", 5000, STEM_NAMES[1:])
    vocals, drums = np.stack([item.stems[:2] for item in items(tmp_path, [sung, played], 60)]).swapaxes(0, 1)
    assert np.mean([stem.any() for stem in vocals]) > 0.75
    highest = [np.argmax(np.abs(np.fft.rfft(stem[0]))) for stem in drums if stem.any()]
    assert min(highest) < 0.1 * FRAMES < max(highest)


@pytest.mark.parametrize(
    ("stems", "lacking"),
    [(STEM_NAMES, None), (("vocals", "other"), "drums, bass, other"), (STEM_NAMES[1:], "vocals")],
)
def test_what_no_song_has_alone_is_said_to_be_synthesised(tmp_path, stems, lacking):
    sources = Sources(songs=[song("one", 300, stems)])
    said = PublishedItemStream(sources, tmp_path, 3, FRAMES, Pool(1, 1.0)).remarks
    assert [line.rpartition(": ")[2] for line in said] == ([lacking] if lacking else [])
