"""What is asked for is found, once and by name; nothing is put where it does not belong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from host.library import (
    RECORD,
    Job,
    LibraryError,
    assign_folders,
    find_inputs,
    finished,
    playlist_entries,
    read_record,
    source_of,
)
from host.outputs import OutputError
from host.staging import remove_abandoned, staged


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_of(inputs, out):
    found, failed = find_inputs(inputs, out)
    return [str(item.name) for item in found], [str(error) for _, error in failed]


def test_a_folder_gives_its_audio_and_neither_hidden_files_nor_the_output(tmp_path) -> None:
    touch(
        tmp_path, "b.WAV", "a.m4a", "x/y/c.flac", "notes.txt", ".hidden.wav", ".d/e.wav", "stems/b/vocals.wav"
    )
    assert names_of([tmp_path], tmp_path / "stems") == (["a", "b", "x/y/c"], [])


def test_a_pattern_that_the_shell_left_alone_is_followed(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "m/one.flac", "m/n/two.flac", "m/n/three.wav", "out/one.flac", "m/list.m3u")
    monkeypatch.chdir(tmp_path)
    assert names_of([Path("**/*.flac")], Path("out")) == (["two", "one"], [])
    assert names_of([tmp_path / "m" / "*"], Path("out")) == (["three", "two", "one"], [])
    assert names_of([Path("*.ogg")], Path("out")) == (
        [],
        ["*.ogg: matches no audio file; check the pattern."],
    )


def test_stems_are_no_input_where_songs_and_stems_share_a_folder(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "a.wav", "a/vocals.wav", f"a/{RECORD}", "x/b.wav", "x/b/vocals.wav", f"x/b/{RECORD}")
    monkeypatch.chdir(tmp_path)
    for out in (Path(), Path("x"), Path("..")):
        expected = ["a"] if out.name == "x" else ["a", "x/b"]
        assert names_of([Path()], out) == (expected, [])
        assert sorted(names_of([Path("**/*.wav")], out)[0]) == (["a"] if out.name == "x" else ["a", "b"])
    assert names_of([tmp_path / "a"], tmp_path) == (["vocals"], [])


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path) -> None:
    touch(tmp_path, "song [live].wav")
    assert names_of([tmp_path / "song [live].wav"], tmp_path / "out") == (["song [live]"], [])


@pytest.mark.parametrize("name", ["...wav", "..wav", "sub/...wav"])
def test_no_name_leads_out_of_the_folder_of_stems(tmp_path, name) -> None:
    touch(tmp_path, name)
    assert names_of([tmp_path / name], tmp_path / "stems")[0] == ["_"]


def test_every_file_is_taken_once(tmp_path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "again.wav").symlink_to(tmp_path / "a.wav")
    inputs = [tmp_path / "a.wav", tmp_path, tmp_path / "*.wav", tmp_path / "." / "b.wav"]
    assert names_of(inputs, tmp_path / "out") == (["a", "b"], [])


def test_a_missing_file_is_left_for_the_reader_to_name(tmp_path) -> None:
    assert names_of([tmp_path / "gone.wav"], tmp_path) == (["gone"], [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.m3u8", "\ufeff#EXTM3U\n#EXTINF:3,A song\nm/ä.wav\n\n  {root}/m/b.flac  \nm\\c.wav\n"),
        ("l.m3u", "m/ä.wav\r\nfile://{root}/m/b%2Eflac\r\nm/c.wav\r\n"),
        (
            "l.PLS",
            "[playlist]\nNumberOfEntries=3\nFile1=m/ä.wav\nTitle1=x\nfile2={root}/m/b.flac\nFile3=m/c.wav\n",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_playlists(tmp_path, name, text, encoding) -> None:
    if encoding == "cp1252":
        text = text.removeprefix("\ufeff")
    touch(tmp_path, "m/ä.wav", "m/b.flac", "m/c.wav")
    (tmp_path / name).write_bytes(text.replace("{root}", str(tmp_path)).encode(encoding))
    expected = [tmp_path / "m" / entry for entry in ("ä.wav", "b.flac", "c.wav")]
    assert playlist_entries(tmp_path / name) == expected
    assert names_of([tmp_path / name], tmp_path / "out") == (["ä", "b", "c"], [])


def test_what_names_nothing_is_told_and_the_rest_goes_on(tmp_path) -> None:
    touch(tmp_path, "a.wav", "empty/x.txt")
    (tmp_path / "l.m3u").write_text("# nothing\n")
    found, failed = find_inputs(
        [tmp_path / "empty", tmp_path / "l.m3u", tmp_path / "a.wav"], tmp_path / "out"
    )
    assert [item.source.name for item in found] == ["a.wav"]
    assert [(path.name, type(error)) for path, error in failed] == [
        ("empty", LibraryError),
        ("l.m3u", LibraryError),
    ]


def folders(paths, out):
    return [str(job.folder.relative_to(out)) for job in assign_folders(find_inputs(paths, out)[0], out)]


def test_names_that_meet_are_numbered(tmp_path) -> None:
    names = ["a/song.wav", "a/song-2.wav", "b/song.flac", "c/SONG.mp3"]
    touch(tmp_path, *names)
    paths = [tmp_path / name for name in names]
    assert folders(paths, tmp_path / "out") == ["song", "song-2", "song-3", "SONG-4"]


def done(job, settings, **changes):
    job.folder.mkdir(parents=True)
    (job.folder / "v.wav").touch()
    record = {"source": source_of(job.source), "settings": settings, "files": {"v": "v.wav"}} | changes
    (job.folder / RECORD).write_text(json.dumps(record))


def test_a_folder_of_an_earlier_run_goes_to_its_own_source_only(tmp_path) -> None:
    touch(tmp_path, "a/song.wav", "b/song.wav")
    out = tmp_path / "out"
    done(Job(tmp_path / "a" / "song.wav", out / "song"), {})
    assert folders([tmp_path / "b" / "song.wav"], out) == ["song-2"]
    assert folders([tmp_path / "b" / "song.wav", tmp_path / "a" / "song.wav"], out) == ["song-2", "song"]


def test_done_means_same_source_same_settings_all_files(tmp_path) -> None:
    touch(tmp_path, "song.wav")
    job = Job(tmp_path / "song.wav", tmp_path / "out" / "song")
    assert finished(job, {"a": 1}) is None
    done(job, {"a": 1})
    assert finished(job, {"a": 1}) is not None
    assert finished(job, {"a": 2}) is None
    (job.folder / "v.wav").unlink()
    assert finished(job, {"a": 1}) is None
    (job.folder / "v.wav").touch()
    os.utime(job.source, ns=(0, 0))
    assert finished(job, {"a": 1}) is None
    job.source.unlink()
    assert finished(job, {"a": 1}) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"files": [], "source": 1}', '{"files": {"a": 1}}', "\x00"]
)
def test_a_record_that_makes_no_sense_is_none(tmp_path, text) -> None:
    (tmp_path / RECORD).write_text(text)
    assert read_record(tmp_path) is None


def test_what_killed_processes_left_is_removed_and_what_live_ones_have_is_not(tmp_path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = os.uname().nodename
    dead, alive, other = (
        tmp_path / f".song.{host}-{child.pid}.part",
        tmp_path / f".song.{host}-{os.getppid()}.part",
        tmp_path / f".song.elsewhere-{child.pid}.part",
    )
    for path in (dead, alive, other):
        touch(path, "half.wav")
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, other])


def test_a_new_folder_appears_when_it_is_whole(tmp_path) -> None:
    with staged(tmp_path / "song", RECORD) as part:
        touch(part, "whole.wav")
        assert not (tmp_path / "song").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["song"]


def test_a_kill_between_two_replacements_leaves_no_record(tmp_path, monkeypatch) -> None:
    """The record goes first and comes last: a folder of mixed files is never taken for done."""
    touch(tmp_path / "song", "a.wav", "b.wav", RECORD)
    moved, replace = [], Path.replace

    def failing(path, target):
        moved.append(path.name)
        if len(moved) == 2:
            raise OSError(28, "No space left on device")
        replace(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OutputError, match="No space left"), staged(tmp_path / "song", RECORD) as part:
        touch(part, "a.wav", "b.wav", RECORD)
    assert moved == ["a.wav", "b.wav"]
    assert sorted(path.name for path in (tmp_path / "song").iterdir()) == ["a.wav", "b.wav"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path) -> None:
    touch(tmp_path, "file")
    with pytest.raises(OutputError, match="cannot be written"), staged(tmp_path / "file" / "song", RECORD):
        pass
