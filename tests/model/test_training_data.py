"""The deterministic stream of training items, and the losses that score them."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.training import dataset
from model.training.dataset import ItemStream, Pool
from model.training.losses import published_loss, separation_loss, snr_loss
from model.training.mix import DEFAULT_MIX, MixError, parse_mix
from model.training.sequenced import drum_of, instruments, pitch_of
from model.training.songs import STEM_NAMES
from model.training.sources import Sources, load_library, load_songs
from tests.model.recorded import write_index, write_library, write_song

FRAMES = 44_101


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def library(tmp_path):
    return write_library(tmp_path / "library")


@pytest.mark.parametrize(
    ("name", "pitch"),
    [
        ("c4_p", 60),
        ("sus_gb3_ff_rr1", 54),
        ("Ds2v8", 39),
        ("a0_vl1_rr1", 21),
        ("finger_As", 46),
        ("bass_hit", None),
    ],
)
def test_pitch_is_read_from_the_name(tmp_path, name, pitch):
    assert pitch_of(tmp_path / f"{name}.ogg") == pitch


@pytest.mark.parametrize(
    ("name", "drum"),
    [
        ("oneshots/bd_808", "kick"),
        ("HihatOpen/HihatOpen_1", "open_hat"),
        ("Snare/Snare_3", "snare"),
        ("x/door", None),
    ],
)
def test_drum_is_read_from_the_name(tmp_path, name, drum):
    assert drum_of(tmp_path / f"{name}.flac") == drum


def test_kits_and_banks_too_small_to_play_are_named():
    sound = np.zeros((2, 50), np.int16)
    names = [f"drums/whole/{drum}" for drum in ("kick", "snare", "hat")] + [
        "drums/half/kick",
        "drums/half/tom",
    ]
    names += [f"bass/low/{note}2" for note in "cdefg"] + [f"bass/few/{note}2" for note in "cdef"]
    made = instruments({Path(f"{name}.flac"): sound for name in names})
    assert ([set(kit) for kit in made.kits], [len(bank) for bank in made.basses]) == (
        [{"kick", "snare", "hat"}],
        [5],
    )
    assert made.left_out == [
        "drums/half: a kit without snare, hat; not used",
        "bass/few: has 4 of at least 5 pitches; not used",
    ]


def stream(sources, cache, mix=DEFAULT_MIX):
    return ItemStream(sources, cache, seed=4, frames=FRAMES, pool=Pool(songs=2, seconds=2.0), mix=mix)


def test_items_depend_on_seed_and_index_alone(library, tmp_path, cache):
    sources = load_library(library, tmp_path / "cache")
    first, again = stream(sources, cache), stream(sources, cache)
    in_order = [first.item(i) for i in range(6)]
    for i in reversed(range(6)):
        item = again.item(i)
        assert np.array_equal(item.stems, in_order[i].stems)
        assert item.split == in_order[i].split
    assert not np.array_equal(in_order[0].stems, in_order[1].stems)


def test_songs_are_rendered_anew_only_where_what_they_are_made_of_changed(cache, monkeypatch):
    keys = []
    monkeypatch.setattr(dataset, "cached", lambda _cache, key, _make: keys.append(key) or np.zeros((4, 2, 9)))
    shot = Path("drums/kick.wav")
    for one_shots in ({}, {shot: np.zeros((2, 50))}, {shot: np.zeros((2, 60))}):
        made = stream(Sources(one_shots=one_shots), cache)
        for kind in ("synthetic", "sequenced"):
            made._pool_song(kind, 0)
    assert (len(set(keys[::2])), len(set(keys[1::2]))) == (1, 3)


def test_without_recordings_every_item_is_synthesised_and_split(cache):
    synthesised = stream(Sources(), cache)
    for item in map(synthesised.item, range(3)):
        assert item.stems.shape == (4, 2, FRAMES)
        assert item.split
        assert np.isfinite(item.stems).all()
        assert item.stems.any()


def test_items_do_not_depend_on_the_process(library, tmp_path, cache):
    """Set and dict order, hashes and memory addresses differ between processes; items do not."""
    code = (
        "import sys, hashlib; from pathlib import Path\n"
        "from model.training.sources import load_library\n"
        "from tests.model.test_training_data import stream\n"
        "folder, cache, decoded = map(Path, sys.argv[1:])\n"
        "items = stream(load_library(folder, decoded), cache)\n"
        "print(hashlib.sha1(b''.join(items.item(i).stems.tobytes() for i in range(4))).hexdigest())\n"
    )
    here = stream(load_library(library, tmp_path / "decoded"), cache)
    mine = hashlib.sha1(b"".join(here.item(i).stems.tobytes() for i in range(4))).hexdigest()
    argv = [sys.executable, "-c", code, str(library), str(cache), str(tmp_path / "again")]
    root = Path(__file__).parents[2]
    run = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == mine


def test_some_items_are_vocals_alone_and_then_count_as_split(library, tmp_path, cache):
    sources = load_library(library, tmp_path / "cache")
    mix = parse_mix("background=1,recorded=0,sequenced=0,synthetic=0,vocals_alone=0.5,without_vocals=0")
    items = [stream(sources, cache, mix).item(i) for i in range(20)]
    alone = [item for item in items if not item.stems[1:].any()]
    assert 3 < len(alone) < 17
    assert all(item.split and item.stems[0].any() for item in alone)
    assert not any(item.split for item in items if item.stems[1:].any())


def test_a_mix_of_what_is_not_there_is_refused(cache):
    with pytest.raises(MixError, match="nothing to draw from background, recorded; give recordings"):
        stream(Sources(), cache, parse_mix("synthetic=0,sequenced=0"))


def test_vocals_and_accompaniment_alone_give_no_drums(tmp_path, cache):
    for name in ("one", "two"):
        write_song(tmp_path / "songs" / name, ("vocals", "instrumental"))
    sources = load_songs(tmp_path / "songs", tmp_path / "decoded")
    items = [stream(sources, cache, parse_mix("synthetic=0")).item(i) for i in range(12)]
    assert {item.split for item in items} == {True, False}
    assert not any(item.stems[1:3].any() for item in items if not item.split)


def test_instrumentals_are_unsplit_and_some_items_have_no_vocals(library, tmp_path, cache):
    backgrounds = Sources(backgrounds=load_library(library, tmp_path / "cache").backgrounds)
    items = [stream(backgrounds, cache).item(i) for i in range(60)]
    unsplit = [item for item in items if not item.split]
    assert 5 < len(unsplit) < 60
    assert not any(item.stems[1:3].any() for item in unsplit)
    assert 2 < sum(not item.stems[0].any() for item in items) < 30


def test_song_without_bass_never_teaches_a_bass(library, tmp_path, cache):
    songs = Sources(songs=load_library(library, tmp_path / "cache").songs)
    items = [stream(songs, cache).item(i) for i in range(40)]
    unsplit = [item for item in items if not item.split]
    assert unsplit
    assert not any(item.stems[1:3].any() for item in unsplit)


def test_a_song_that_nobody_sings_gets_voices_and_gives_none(tmp_path, cache):
    write_song(tmp_path / "library/instrumentals/act/piece", STEM_NAMES[1:], ".flac")
    sources = load_library(write_index(tmp_path / "library"), tmp_path / "decoded")
    mix = parse_mix("synthetic=0,synthetic_voice=1,without_vocals=0,vocals_alone=0")
    items = [stream(sources, cache, mix).item(i) for i in range(12)]
    assert all(item.split and item.stems[0].any() for item in items)
    with pytest.raises(MixError, match="nothing to draw from recorded"):
        stream(sources, cache, parse_mix("synthetic_voice=0,singing=0,speech=0"))


def test_loss_sees_only_the_sum_of_an_unsplit_accompaniment():
    import torch

    torch.manual_seed(0)
    stems = torch.randn(1, 4, 2, 4096)
    moved = stems.clone()
    moved[:, 1] += 1.0
    moved[:, 3] -= 1.0
    unsplit, split = torch.tensor([False]), torch.tensor([True])
    assert separation_loss(moved, stems, unsplit, published_loss) < 1e-3
    assert separation_loss(moved, stems, split, published_loss) > 0.1


@pytest.mark.parametrize("loss", [snr_loss, published_loss])
def test_loss_does_not_depend_on_the_level(loss):
    import torch

    torch.manual_seed(0)
    stems, estimate = torch.randn(2, 4, 2, 4096), torch.randn(2, 4, 2, 4096)
    split = torch.tensor([True, False])
    loud = separation_loss(estimate, stems, split, loss)
    quiet = separation_loss(0.1 * estimate, 0.1 * stems, split, loss)
    assert quiet == pytest.approx(float(loud), rel=1e-3)
