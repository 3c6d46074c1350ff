"""Recordings to train on: what is found, and that nothing bad is mixed in silently."""

import os

import numpy as np
import pytest

from model.filters import RATE_HZ
from model.training.recipe import TrainingError
from model.training.recordings import TrainingDataError, decode, load
from model.training.songs import STEM_NAMES
from model.training.sources import (
    Sources,
    accepted,
    load_library,
    load_songs,
    load_sources,
    merged,
    read_index,
    shared_packs,
)
from tests.model.recorded import (
    as_rf64,
    as_streamed,
    cut,
    tone,
    write,
    write_index,
    write_library,
    write_song,
)


@pytest.fixture
def library(tmp_path):
    return write_library(tmp_path / "library")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_library_names_every_file_it_leaves_out(library, cache):
    sources = load_library(library, cache)
    assert len(sources.singing) == len(sources.backgrounds) == len(sources.songs) == 1
    reasons = {line.split("/")[-1].split(":")[0]: line for line in sources.left_out}
    assert set(reasons) == {"short.flac", "silent.flac", "broken.flac", "gone.flac"}
    assert "shorter than" in reasons["short.flac"]
    assert "silent" in reasons["silent.flac"]
    assert "cannot be read" in reasons["broken.flac"]
    assert "missing" in reasons["gone.flac"]


def test_splits_do_not_mix(library, cache):
    assert len(load_library(library, cache, "test").singing) == 1
    assert not load_library(library, cache, "test").songs


def test_a_recording_of_no_known_kind_is_named(library, cache):
    write(library / "birds/x/owl.flac", tone(1.0))
    write_index(library)
    assert any("owl.flac: lies in none of singing" in line for line in load_library(library, cache).left_out)


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"path,split\na.wav,train\n",
        b"file\tpart\na.wav\ttrain\n",
        b"path\tsplit\n\ttrain\n",
        b"path\tsplit\na\n",
    ],
)
def test_unusable_table_is_refused(tmp_path, cache, table):
    (tmp_path / "files.tsv").write_bytes(table)
    with pytest.raises(TrainingDataError, match="path and split"):
        load_library(tmp_path, cache)


@pytest.mark.parametrize("path", [".", "/etc/passwd", "../other/vocals.wav", "singing/../../x.wav"])
def test_a_path_that_leads_out_of_the_library_is_refused(library, cache, path):
    write_index(library, extra=[f"{path}\ttrain"])
    for read in (shared_packs, lambda folder: load_library(folder, cache)):
        with pytest.raises(TrainingDataError, match=f"'{path}' names no file below {library}; write"):
            read(library)


def test_a_kind_alone_is_no_file(library, cache):
    left_out = load_library(write_index(library, extra=["multitracks\ttrain"]), cache).left_out
    assert any(f"{library}/multitracks: missing" in line for line in left_out)


def test_one_shots_that_cannot_be_played_are_left_out_or_refused(tmp_path, cache):
    write(tmp_path / "drums/kit/door.flac", tone(0.2))
    sources = load_library(write_index(tmp_path), cache)
    assert sources.left_out == ["drums/kit/door.flac: no drum or pitch in its name; not used"]
    with pytest.raises(TrainingDataError, match=r"door\.flac"):
        accepted(sources, "refuse")


def test_a_table_that_is_not_text_is_refused(tmp_path, cache):
    (tmp_path / "files.tsv").write_bytes(b"path\tsplit\n\xff\xfe\ttrain\n")
    with pytest.raises(TrainingDataError, match="UTF-8"):
        load_library(tmp_path, cache)


def test_missing_table_is_refused(tmp_path, cache):
    with pytest.raises(TrainingDataError, match=r"no files\.tsv"):
        load_library(tmp_path, cache)


def test_packs_of_training_are_no_test_data(library, cache):
    assert shared_packs(library) == []
    write(library / "singing/b/second.flac", tone(1.0))
    write_index(library, lambda path: "test" if path.stem == "held_out" else "train")
    assert [str(pack) for pack in shared_packs(library)] == ["singing/b"]
    for split, voices in (("train", 2), ("test", 0)):
        sources = load_library(library, cache, split)
        assert len(sources.singing) == voices
        assert sources.notes == [f"{library}/singing/b: in training and in test; not tested on"]


def test_pieces_of_one_composer_may_lie_in_both_splits(library):
    write(library / "backgrounds/b/other.flac", tone(5.0))
    write_index(library, lambda path: "test" if path.stem in ("piece", "held_out") else "train")
    assert shared_packs(library) == []
    assert len(read_index(library, "test")) == 2


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff"])
def test_songs_of_four_stems_are_found_in_any_format(tmp_path, cache, suffix):
    write_song(tmp_path / "album/whole", suffix=suffix)
    (tmp_path / "album/whole/mixture.wav").write_bytes(b"never read")
    (song,) = load_songs(tmp_path, cache).songs
    assert (song.name, set(song.stems), song.complete) == ("album/whole", set(STEM_NAMES), True)
    assert song.frames == pytest.approx(5 * RATE_HZ, abs=2304)


def test_a_misspelt_split_is_named(library, cache):
    write_index(library, lambda path: "trian" if "singing" in path.parts else "train")
    for split in ("train", "test"):
        sources = load_library(library, cache, split)
        said = sources.left_out[0]
        assert not sources.singing
        assert "split 'trian' (" in said and said.endswith("is none of train, test; not used")
        with pytest.raises(TrainingDataError, match="trian"):
            accepted(sources, "refuse")


def as_library(folder, cache):
    return load_library(write_index(folder), cache)


@pytest.fixture(params=[as_library, load_songs])
def read_songs(request):
    """A folder with `multitracks/song/` as a library and as a folder of songs: stems are chosen alike."""
    return request.param


@pytest.mark.parametrize("backing", ["other", "accompaniment", "instrumental", "no_vocals"])
def test_vocals_and_their_accompaniment_are_a_song_that_is_not_split(tmp_path, cache, read_songs, backing):
    write_song(tmp_path / "multitracks/duo", ("vocals", backing), ".flac")
    sources = read_songs(tmp_path, cache)
    (song,) = sources.songs
    assert (set(song.stems), song.complete) == ({"vocals", "other"}, False)
    said = [f"{tmp_path}/multitracks/duo: vocals and other alone; other is taken for the rest"]
    assert sources.notes == (said if backing == "other" else [])


@pytest.mark.parametrize(
    ("names", "stems", "said"),
    [
        ((*STEM_NAMES, "Guitar", "piano", "mixture", "instrumental"), set(STEM_NAMES), "Guitar, piano"),
        (("vocals", "other", "guitar", "mixture"), {"vocals", "other"}, "guitar"),
        (("vocals", "instrumental", "drums"), {"vocals", "other"}, "drums"),
    ],
)
def test_stems_beyond_those_four_are_named(tmp_path, cache, read_songs, names, stems, said):
    folder = write_song(tmp_path / "multitracks/song", names, ".flac")
    sources = read_songs(tmp_path, cache)
    assert [set(song.stems) for song in sources.songs] == [stems]
    (note,) = sources.notes
    assert note.startswith(f"{folder}: {said.replace(',', '.flac,')}.flac not used; only vocals.flac, ")


def test_a_song_with_two_accompaniments_is_left_out(tmp_path, cache, read_songs):
    folder = write_song(tmp_path / "multitracks/song", ("vocals", "instrumental", "no_vocals"), ".flac")
    write_song(tmp_path / "multitracks/good", suffix=".flac")
    sources = read_songs(tmp_path, cache)
    assert [song.name for song in sources.songs] == ["multitracks/good"]
    said = "has two files for the accompaniment (instrumental, no_vocals); keep one"
    assert sources.left_out == [f"{folder}: {said}"]


def test_stems_of_two_formats_are_two_files(library, cache):
    write(library / "multitracks/act/song/vocals.wav", tone(5.0))
    sources = load_library(write_index(library, extra=["multitracks/act/song/vocals.wav\ttrain"]), cache)
    assert not sources.songs
    assert any("song: has two files for vocals; keep one" in line for line in sources.left_out)


def test_a_row_written_twice_is_one_file(library, cache):
    write_index(library, extra=["multitracks/act/song/vocals.flac\ttrain"])
    assert len(load_library(library, cache).songs) == 1


def test_a_song_without_bass_stays_one_of_three_stems(library, cache):
    sources = load_library(library, cache)
    (song,) = sources.songs
    assert (set(song.stems), song.complete, sources.notes) == ({"vocals", "drums", "other"}, False, [])


def test_folders_of_sound_without_a_stem_are_named(tmp_path, cache):
    write_song(tmp_path / "good")
    write(tmp_path / "numbered/01_vocals.wav", tone(5.0))
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words/readme.txt").write_text("no sound")
    sources = load_songs(tmp_path, cache)
    assert [song.name for song in sources.songs] == ["good"]
    assert [line.split(":")[0] for line in sources.left_out] == [f"{tmp_path}/empty", f"{tmp_path}/numbered"]
    assert all("no file is named vocals, drums" in line for line in sources.left_out)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "TEST")])
def test_folders_named_train_and_test_in_any_case_are_the_splits(tmp_path, cache, train, test):
    for name in (f"{train}/one", f"{train}/both", f"{test}/two", f"{test}/both"):
        write_song(tmp_path / name)
    trained, tested = load_songs(tmp_path, cache), load_songs(tmp_path, cache, "test")
    assert [song.name for song in trained.songs] == [f"{train}/both", f"{train}/one"]
    assert [song.name for song in tested.songs] == [f"{test}/two"]
    for sources, split in ((trained, train), (tested, test)):
        assert sources.notes == [f"{tmp_path}/{split}/both: in training and in test; not tested on"]


def test_a_song_is_used_once_wherever_links_lead(tmp_path, cache):
    write_song(tmp_path / "songs/a")
    write_song(tmp_path / "far/b")
    (tmp_path / "songs/linked").symlink_to(tmp_path / "songs/a")
    (tmp_path / "songs/more").symlink_to(tmp_path / "far")
    write_song(tmp_path / "songs/.trash/c")
    sources = load_songs(tmp_path / "songs", cache)
    assert [song.name for song in sources.songs] == ["a"]
    assert sources.left_out == [
        f"{tmp_path}/songs/linked: holds files of {tmp_path}/songs/a; used once",
        f"{tmp_path}/songs/more: a link to what is no song; link songs one by one",
    ]


def test_folders_and_files_beside_songs_are_no_songs(tmp_path, cache):
    write_song(tmp_path / "pop/other/song")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/bass.txt").write_text("slap")
    (tmp_path / "again").symlink_to(tmp_path / "pop")
    sources = load_songs(tmp_path, cache)
    assert ([song.name for song in sources.songs], sources.left_out) == (["pop/other/song"], [])


def test_a_song_of_training_is_no_test_song_under_another_name(tmp_path, cache):
    for name in ("train/one", "test/two"):
        write_song(tmp_path / name)
    (tmp_path / "test/three").symlink_to(tmp_path / "train/one")
    (tmp_path / "test/four").mkdir()
    for name in STEM_NAMES:
        os.link(tmp_path / f"train/one/{name}.wav", tmp_path / f"test/four/{name}.wav")
    assert [song.name for song in load_songs(tmp_path, cache, "test").songs] == ["test/two"]


def test_a_name_that_is_not_utf_8_is_told(tmp_path, cache):
    write_song(tmp_path / "good")
    write_song(tmp_path / "bad").rename(os.fsdecode(os.fsencode(tmp_path) + b"/s\xffng"))
    sources = load_songs(tmp_path, cache)
    assert [song.name for song in sources.songs] == ["good"]
    assert "its name is not in UTF-8; rename it" in sources.left_out[0]
    (tmp_path / "linked").symlink_to(os.fsdecode(os.fsencode(tmp_path) + b"/s\xffng"))
    assert "linked" in [song.name for song in load_songs(tmp_path, cache).songs]


def test_what_a_user_reads_is_one_line_each():
    assert Sources(left_out=["two\nlines: silent"], notes=["more"]).remarks() == [
        "left out: two lines: silent",
        "more",
    ]


def test_a_full_disk_is_told_where_it_is(tmp_path, cache, monkeypatch):
    path = write(tmp_path / "a.wav", tone(1.0))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    write_song(tmp_path / "songs/a")
    for read in (lambda: load(cache, path, 0.3, trim=False), lambda: load_songs(tmp_path / "songs", cache)):
        with pytest.raises(TrainingError, match=r"cache: cannot keep .*No space left.*make room"):
            read()
    assert list(cache.iterdir()) == []


def test_songs_beside_the_splits_are_left_out_by_name(tmp_path, cache):
    for name in ("train/one", "test/two", "valid/three", "loose", ".trash"):
        write_song(tmp_path / name)
    (tmp_path / "notes").mkdir()
    said = [f"{tmp_path}/{name}: neither train nor test; not used" for name in ("loose", "valid")]
    assert load_songs(tmp_path, cache).left_out == said
    assert load_songs(tmp_path, cache, "test").left_out == []


def test_songs_of_test_alone_are_trained_on_and_said_to_be(tmp_path, cache):
    write_song(tmp_path / "test/one")
    sources = load_songs(tmp_path, cache)
    assert [song.name for song in sources.songs] == ["test/one"]
    assert sources.notes == [f"{tmp_path}/test: no folder train beside it; trained on"]


def test_songs_without_splits_are_for_training(tmp_path, cache):
    write_song(tmp_path / "train/one")
    assert len(load_songs(tmp_path, cache).songs) == 1
    assert load_songs(tmp_path, cache, "test").songs == []


def lose(song):
    (song / "bass.wav").unlink()


def shorten(song):
    for name in STEM_NAMES:
        write(song / f"{name}.wav", tone(1.0))


def silence(song):
    write(song / "bass.wav", tone(5.0, level=0.0))


def garble(song):
    (song / "bass.wav").write_bytes(b"not audio")


def hollow(song):
    (song / "bass.wav").write_bytes(b"")


def empty(song):
    write(song / "bass.wav", np.zeros((2, 0), np.float32))


def cut_wav(song):
    cut(song / "bass.wav")


def cut_rf64(song):
    cut(as_rf64(song / "bass.wav"))


def cut_flac(song):
    (song / "bass.wav").unlink()
    cut(write(song / "bass.flac", tone(5.0)))


def cut_aiff(song):
    (song / "bass.wav").unlink()
    cut(write(song / "bass.aiff", tone(5.0)))


def endless_aiff(song):
    (song / "bass.wav").unlink()
    path = write(song / "bass.aiff", tone(5.0))
    content = path.read_bytes()
    at = content.index(b"SSND") + 4
    path.write_bytes(content[:at] + b"\xff" * 4 + content[at + 4 :])


def poison(song):
    sound = tone(5.0)
    sound[1, 500] = np.nan
    write(song / "bass.wav", sound, bit_depth=32)


def overflow(song):
    sound = tone(5.0)
    sound[0, 500] = np.inf
    write(song / "bass.wav", sound, bit_depth=32)


def slow_down(song):
    write(song / "bass.wav", tone(5.0, rate_hz=48_000), 48_000)


def clip_end(song):
    write(song / "bass.wav", tone(4.99))


def surround(song):
    write(song / "bass.wav", np.repeat(tone(5.0), 3, axis=0))


def blare(song):
    write(song / "bass.wav", tone(5.0, level=1.2), bit_depth=32)


def rename(song):
    for name in STEM_NAMES:
        (song / f"{name}.wav").rename(song / f"{name}.opus")


def double(song):
    write(song / "Bass.FLAC", tone(5.0))


FAULTS = [
    (lose, "has no bass"),
    (shorten, "shorter than 4 s"),
    (silence, r"bass\.wav: silent"),
    (garble, r"bass\.wav: cannot be read"),
    (hollow, r"bass\.wav: cannot be read"),
    (empty, r"bass\.wav: shorter than"),
    (cut_wav, r"bass\.wav: ends early"),
    (cut_rf64, r"bass\.wav: ends early"),
    (cut_flac, r"bass\.flac: ends early"),
    (cut_aiff, r"bass\.aiff: ends early"),
    (endless_aiff, r"bass\.aiff: ends early"),
    (poison, r"bass\.wav: holds NaN"),
    (overflow, r"bass\.wav: holds NaN or infinite"),
    (slow_down, r"stems differ in Hz \(vocals 44100, drums 44100, bass 48000"),
    (clip_end, r"stems differ in frames \(vocals 220500, drums 220500, bass 220059"),
    (surround, r"bass\.wav: has 6 channels"),
    (double, "has two files for bass"),
    (blare, r"bass\.wav: peaks more than 1 dB above"),
    (rename, r"no file is named vocals.*\.wav\); not used"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_song_with_a_bad_stem_is_skipped_whole_or_refused(tmp_path, cache, fault, reason):
    write_song(tmp_path / "good")
    fault(write_song(tmp_path / "bad"))
    sources = load_songs(tmp_path, cache)
    assert [song.name for song in sources.songs] == ["good"]
    (line,) = sources.left_out
    assert line.startswith(f"{tmp_path}/bad") and "\n" not in line
    assert accepted(sources, "skip") is sources
    with pytest.raises(TrainingDataError, match=reason):
        accepted(sources, "refuse")


def test_a_library_song_with_a_bad_stem_is_left_out_whole(library, cache):
    (library / "multitracks/act/song/drums.flac").write_bytes(b"not audio")
    sources = load_library(library, cache)
    assert sources.songs == []
    assert any("drums.flac: cannot be read" in line for line in sources.left_out)


def test_a_library_song_without_vocals_is_named(library, cache):
    (library / "multitracks/act/song/vocals.flac").unlink()
    write_index(library)
    assert any("song: has no vocals" in line for line in load_library(library, cache).left_out)


def test_an_instrumental_has_three_stems(library, cache):
    write_song(library / "instrumentals/act/piece", STEM_NAMES[1:], ".flac")
    write_song(library / "instrumentals/act/half", ("drums", "other"), ".flac")
    sources = load_library(write_index(library), cache)
    named = {song.name: song for song in sources.songs}
    assert (
        named["instrumentals/act/piece"].complete and "vocals" not in named["instrumentals/act/piece"].stems
    )
    assert "instrumentals/act/half" not in named
    assert any("half: has no bass" in line for line in sources.left_out)


def test_a_song_at_one_other_rate_is_resampled_and_said(tmp_path, cache):
    for place, name in enumerate(STEM_NAMES):
        write(tmp_path / f"song/{name}.wav", tone(5.0, 441.0 * (place + 1), rate_hz=48_000), 48_000)
    sources = load_songs(tmp_path, cache)
    assert sources.notes == [f"{tmp_path}/song: 48000 Hz, resampled to 44100 Hz"]
    vocals = sources.songs[0].stems["vocals"]
    assert vocals.shape == (2, 5 * RATE_HZ)
    spectrum = np.abs(np.fft.rfft(vocals[0]))
    assert np.argmax(spectrum) == 5 * 441


def test_other_files_at_other_rates_are_resampled_and_counted(library, cache):
    for name in ("singing/a/one", "backgrounds/b/two"):
        write(library / f"{name}.flac", tone(5.0, rate_hz=48_000), 48_000)
    write_index(library, lambda path: "test" if path.stem == "held_out" else "train")
    assert load_library(library, cache).notes == [f"{library}: 2 files of other rates, resampled to 44100 Hz"]
    assert load_library(library, cache, "test").notes == []


@pytest.mark.parametrize("bit_depth", [16, 24])
def test_a_whole_flac_is_not_taken_for_a_damaged_one(tmp_path, bit_depth):
    noise = np.random.default_rng(0).uniform(-1, 1, (2, RATE_HZ)).astype(np.float32)
    sound = decode(write(tmp_path / "noise.flac", noise, bit_depth=bit_depth))
    assert np.abs(sound - noise).max() < 2.0 ** (2 - bit_depth)


@pytest.mark.parametrize("bit_depth", [16, 24])
def test_a_streamed_wav_is_as_long_as_its_file(tmp_path, bit_depth):
    wav = write(tmp_path / "a.wav", tone(5.0), bit_depth=bit_depth)
    whole = decode(wav)
    assert np.array_equal(decode(as_streamed(wav)), whole)
    assert np.array_equal(decode(cut(wav))[:, : RATE_HZ // 2], whole[:, : RATE_HZ // 2])


def test_a_whole_wav_with_large_sizes_is_not_taken_for_a_cut_one(tmp_path):
    wav = write(tmp_path / "a.wav", tone(1.0))
    whole = decode(wav)
    assert np.array_equal(decode(as_rf64(wav)), whole)


@pytest.mark.parametrize("left", [0, 64, 1000])
def test_what_lies_broken_in_the_cache_is_made_anew(tmp_path, cache, left):
    whole = np.array(load(cache, write(tmp_path / "a.wav", tone(1.0)), 0.3, trim=False))
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:left])
    assert np.array_equal(load(cache, tmp_path / "a.wav", 0.3, trim=False), whole)
    assert [path.name for path in cache.iterdir()] == [kept.name]


def test_mono_lies_on_both_channels(tmp_path):
    sound = decode(write(tmp_path / "mono.wav", tone(0.5)[:1]))
    assert np.array_equal(sound[0], sound[1]) and sound.any()


def test_refusal_counts_what_else_is_bad():
    sources = Sources(left_out=["a.wav: silent", "b.wav: missing"])
    with pytest.raises(TrainingDataError, match=r"a\.wav: silent \(and 1 more\)"):
        accepted(sources, "refuse")
    with pytest.raises(TrainingDataError, match="skip or refuse"):
        accepted(Sources(), "ignore")


def test_folder_without_songs_is_refused(tmp_path, cache):
    with pytest.raises(TrainingDataError, match="no song folder"):
        load_songs(tmp_path, cache)
    with pytest.raises(TrainingDataError, match="no such folder"):
        load_songs(tmp_path / "nowhere", cache)


def test_merged_sources_keep_both(library, cache):
    sources = load_library(library, cache)
    both = merged(sources, Sources(left_out=["x"], notes=["y"]))
    assert (len(both.songs), both.left_out[-1], both.notes[-1]) == (1, "x", "y")
    assert len(both.left_out) == len(sources.left_out) + 1


def test_sources_of_both_folders_follow_the_split(library, tmp_path, cache):
    for name in ("train/one", "test/two"):
        write_song(tmp_path / "musdb" / name)
    trained = load_sources(library, tmp_path / "musdb", cache)
    tested = load_sources(library, tmp_path / "musdb", cache, "test")
    assert [song.name for song in trained.songs] == ["multitracks/act/song", "train/one"]
    assert [song.name for song in tested.songs] == ["test/two"]
    assert len(tested.singing) == 1 and not trained.empty
    assert load_sources(None, None, cache).empty
