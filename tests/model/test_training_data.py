"""Where training items come from: folders of recordings, screening, the deterministic stream."""

import numpy as np
import pytest
from pedalboard.io import AudioFile

from model.training.dataset import ItemStream, Pool
from model.training.losses import published_loss, separation_loss, snr_loss
from model.training.sequenced import drum_of, pitch_of
from model.training.sources import Sources, TrainingDataError, load_library, load_songs, merged, screened
from model.training.synth import RATE_HZ

FRAMES = 44_101


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def tone(seconds, hz=220.0, level=0.3):
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.tile((level * np.sin(2 * np.pi * hz * t)).astype(np.float32), (2, 1))


def write(path, audio):
    path.parent.mkdir(parents=True, exist_ok=True)
    with AudioFile(str(path), "w", samplerate=RATE_HZ, num_channels=2) as file:
        file.write(audio)


@pytest.fixture
def library(tmp_path):
    """Two phrases, an instrumental, a song without bass; and four files that cannot be used."""
    folder = tmp_path / "library"
    write(folder / "singing/a/long.flac", tone(1.0, 330.0))
    write(folder / "singing/a/held_out.flac", tone(1.0, 440.0))
    write(folder / "singing/a/short.flac", tone(0.1))
    write(folder / "singing/a/silent.flac", tone(1.0, level=0.0))
    (folder / "singing/a/broken.flac").write_bytes(b"not audio")
    write(folder / "backgrounds/b/piece.flac", tone(5.0, 110.0))
    for stem, hz in (("vocals", 300.0), ("drums", 90.0), ("other", 700.0)):
        write(folder / f"multitracks/act/song/{stem}.flac", tone(5.0, hz))
    names = sorted(p.relative_to(folder) for p in folder.rglob("*.flac"))
    rows = [f"{name}\t{'test' if name.stem == 'held_out' else 'train'}" for name in names]
    (folder / "files.tsv").write_text("\n".join(["path\tsplit", *rows, "singing/a/gone.flac\ttrain"]) + "\n")
    return folder


def test_library_names_every_file_it_leaves_out(library, tmp_path):
    sources = load_library(library, tmp_path / "cache")
    assert len(sources.singing) == len(sources.backgrounds) == len(sources.songs) == 1
    reasons = {line.split("/")[-1].split(":")[0]: line for line in sources.left_out}
    assert set(reasons) == {"short.flac", "silent.flac", "broken.flac", "gone.flac"}
    assert "shorter than" in reasons["short.flac"]
    assert "silent" in reasons["silent.flac"]
    assert "cannot be read" in reasons["broken.flac"]
    assert "missing" in reasons["gone.flac"]


def test_splits_do_not_mix(library, tmp_path):
    assert len(load_library(library, tmp_path / "cache", "test").singing) == 1
    assert not load_library(library, tmp_path / "cache", "test").songs


def test_nan_is_refused_by_name(tmp_path):
    sound = tone(1.0)
    sound[0, 100] = np.nan
    with pytest.raises(TrainingDataError, match=r"take\.wav: holds NaN"):
        screened(tmp_path / "take.wav", sound, 0.3)


@pytest.mark.parametrize("text", ["", "path,split\na.wav,train\n", "file\tpart\na.wav\ttrain\n"])
def test_unusable_table_is_refused(tmp_path, text):
    (tmp_path / "files.tsv").write_text(text)
    with pytest.raises(TrainingDataError, match="path and split"):
        load_library(tmp_path, tmp_path / "cache")


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(TrainingDataError, match=r"no files\.tsv"):
        load_library(tmp_path, tmp_path / "cache")


def test_song_folders_need_all_four_stems(tmp_path):
    for stem in ("vocals", "drums", "bass", "other"):
        write(tmp_path / f"train/whole/{stem}.wav", tone(5.0))
    write(tmp_path / "train/part/vocals.wav", tone(5.0))
    sources = load_songs(tmp_path, tmp_path / "cache")
    assert [song.name for song in sources.songs] == ["train/whole"]
    assert "has no drums, bass, other" in sources.left_out[0]


def test_folder_without_songs_is_refused(tmp_path):
    with pytest.raises(TrainingDataError, match="no song folder"):
        load_songs(tmp_path, tmp_path / "cache")
    with pytest.raises(TrainingDataError, match="no such folder"):
        load_songs(tmp_path / "nowhere", tmp_path / "cache")


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


def stream(sources, cache):
    return ItemStream(sources, cache, seed=4, frames=FRAMES, pool=Pool(songs=2, seconds=2.0))


def test_items_depend_on_seed_and_index_alone(library, tmp_path, cache):
    sources = load_library(library, tmp_path / "cache")
    first, again = stream(sources, cache), stream(sources, cache)
    in_order = [first.item(i) for i in range(6)]
    for i in reversed(range(6)):
        item = again.item(i)
        assert np.array_equal(item.stems, in_order[i].stems)
        assert item.split == in_order[i].split
    assert not np.array_equal(in_order[0].stems, in_order[1].stems)


def test_without_recordings_every_item_is_synthesised_and_split(cache):
    batch = stream(Sources(), cache).batch(range(3))
    assert batch.stems.shape == (3, 4, 2, FRAMES)
    assert np.array_equal(batch.mixtures, batch.stems.sum(axis=1))
    assert batch.split.all()
    assert np.isfinite(batch.stems).all()
    assert batch.stems.any(axis=(1, 2, 3)).all()


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


def test_merged_sources_keep_both(library, tmp_path):
    sources = load_library(library, tmp_path / "cache")
    both = merged(sources, Sources(left_out=["x"]))
    assert (len(both.songs), both.left_out) == (1, [*sources.left_out, "x"])


def test_loss_sees_only_the_sum_of_an_unsplit_accompaniment():
    import torch

    torch.manual_seed(0)
    stems = torch.randn(1, 4, 2, 4096)
    moved = stems.clone()
    moved[:, 1] += 0.5
    moved[:, 3] -= 0.5
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
