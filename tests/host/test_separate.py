"""`stembridge separate`: any rate and channel count in, the same out; one line for every mistake."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from host.audio_files import read_audio, write_audio
from host.errors import UserError
from host.models import signature_separator
from host.separate import (
    Renderer,
    output_names,
    parts_of,
    render_by_hops,
    separate,
    separate_channels,
    stem_indices,
)
from model.checkpoint import ModelCard, load_model, save_checkpoint
from model.offline import separate as separate_whole
from tests.model.builders import random_model

STEMS = ["vocals", "drums", "bass", "other"]


def noise(channels, frames, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(separate, [str(argument) for argument in arguments])


def assert_one_line(result, *words):
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(path, random_model(), ModelCard("CC0-1.0", "random", "random weights"))
    return path


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    write_audio(path, noise(2, 5000), 44100)
    return path


@pytest.mark.parametrize(
    ("rate_hz", "channels", "frames"),
    [(8000, 1, 1), (8000, 1, 801), (44100, 2, 4411), (48000, 6, 4799), (192000, 3, 20001)],
)
def test_stems_have_the_shape_of_the_input(tmp_path, checkpoint, rate_hz, channels, frames) -> None:
    path = tmp_path / "in.wav"
    write_audio(path, noise(channels, frames), rate_hz)
    result = run(path, "--out", tmp_path / "out", "--model", checkpoint, "--device", "cpu")
    assert result.exit_code == 0, result.output
    for name in STEMS:
        stem, stem_rate_hz = read_audio(tmp_path / "out" / "in" / f"{name}.wav")
        assert (stem.shape, stem_rate_hz) == ((channels, frames), rate_hz)


def test_a_stereo_file_at_the_models_rate_is_what_the_offline_renderer_gives(song, checkpoint) -> None:
    out = song.parent / "out"
    assert run(song, "--out", out, "--model", checkpoint, "--device", "cpu").exit_code == 0
    expected = separate_whole(load_model(str(checkpoint))[0], read_audio(song)[0])
    for name, stem in zip(STEMS, expected, strict=True):
        written, _ = read_audio(out / "song" / f"{name}.wav")
        np.testing.assert_array_equal(written, stem)


def test_other_rates_stay_in_place_in_time(tmp_path, checkpoint) -> None:
    """A click at 48 kHz comes out where it went in: resampling both ways shifts nothing."""
    audio = np.zeros((2, 24000), np.float32)
    audio[:, 12000] = 1.0
    write_audio(tmp_path / "in.wav", audio, 48000)
    assert (
        run(tmp_path / "in.wav", "--out", tmp_path, "--model", checkpoint, "--device", "cpu").exit_code == 0
    )
    stem, _ = read_audio(tmp_path / "in" / "vocals.wav")
    assert abs(int(np.argmax(np.abs(stem[0]))) - 12000) <= 2


@pytest.mark.parametrize("frames", [1, 440, 441, 442, 1323])
def test_cranking_by_hops_removes_the_latency(frames) -> None:
    audio = noise(2, frames)
    stems = render_by_hops(signature_separator(44100), audio, lambda done: None)
    assert stems.shape == (4, 2, frames)
    np.testing.assert_array_equal(stems[:3], np.stack([0.5 * audio] * 3))


@given(st.integers(1, 24), st.integers(1, 2))
def test_every_channel_is_separated_once(channels, at_a_time) -> None:
    parts = parts_of(channels, at_a_time)
    assert [channel for part in parts for channel in part] == list(range(channels))
    assert all(1 <= len(part) <= at_a_time for part in parts)


def test_channels_come_back_in_their_places_and_progress_reaches_the_end() -> None:
    audio, seen = noise(6, 100), []

    def identity(wide, rate_hz, progress):
        assert wide.shape[0] == 2
        progress(1.0)
        return wide[None]

    stems = separate_channels(Renderer(("all",), 2, identity), audio, 44100, seen.append)
    np.testing.assert_array_equal(stems[0], audio)
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_wanted_stems_come_in_the_order_asked_for_and_once() -> None:
    assert stem_indices(STEMS, ["bass", "vocals", "bass"], "m") == [2, 0]
    assert stem_indices(STEMS, [], "m") == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"guitar.*vocals, drums, bass, other"):
        stem_indices(STEMS, ["guitar"], "m")


def test_only_the_wanted_stems_are_written(song) -> None:
    out = song.parent / "out"
    result = run(song, "--out", out, "--model", "signature", "--stems", "bass, vocals", "--json")
    assert sorted(path.name for path in (out / "song").iterdir()) == ["bass.wav", "vocals.wav"]
    done = json.loads(result.stdout)
    assert done["failed"] == []
    assert done["separated"][0]["frames"] == 5000
    assert list(done["separated"][0]["outputs"]) == ["bass", "vocals"]


def test_inputs_of_one_name_do_not_meet(tmp_path) -> None:
    paths = [tmp_path / "a" / "song.wav", tmp_path / "b" / "Song.flac"]
    for seed, path in enumerate(paths):
        write_audio(path, noise(2, 1000, seed), 44100, "int24")
    out = tmp_path / "out"
    assert run(*paths, "--out", out, "--model", "signature").exit_code == 0
    for folder, path in (("song", paths[0]), ("Song-2", paths[1])):
        stem, _ = read_audio(out / folder / "vocals.wav")
        np.testing.assert_array_equal(stem, 0.5 * read_audio(path)[0])


def test_a_made_up_name_does_not_take_one_that_is_there() -> None:
    inputs = [Path("song.wav"), Path("song-2.wav"), Path("song.flac"), Path("SONG.mp3")]
    names = output_names(inputs)
    assert names == ["song", "song-2", "song-3", "SONG-4"]


def test_old_stems_are_replaced_and_nothing_else_is_left(song) -> None:
    out = song.parent / "out"
    for _ in range(2):
        assert run(song, "--out", out, "--model", "signature").exit_code == 0
    assert sorted(path.name for path in (out / "song").iterdir()) == sorted(f"{name}.wav" for name in STEMS)


def test_an_input_is_never_overwritten(tmp_path) -> None:
    path = tmp_path / "vocals" / "vocals.wav"
    write_audio(path, noise(2, 1000), 44100)
    before = path.read_bytes()
    assert_one_line(run(path, "--out", tmp_path, "--model", "signature"), "overwritten", "--out")
    assert path.read_bytes() == before


def bad_files(folder):
    broken = np.zeros((2, 100), np.float32)
    broken[0, 50] = np.nan
    write_audio(folder / "nan.wav", broken, 44100)
    (folder / "text.wav").write_text("no audio")
    (folder / "nothing.wav").touch()
    (folder / "folder.wav").mkdir()
    return ["nan.wav", "text.wav", "nothing.wav", "folder.wav", "missing.wav"]


def test_a_bad_file_is_told_and_skipped(tmp_path, song) -> None:
    bad = [tmp_path / name for name in bad_files(tmp_path)]
    result = run(*bad[:2], song, *bad[2:], "--out", tmp_path / "out", "--model", "signature", "--json")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [path.name in line for path, line in zip(bad, lines, strict=True)] == [True] * 5
    told = json.loads(result.stdout)
    assert [row["input"] for row in told["failed"]] == [str(path) for path in bad]
    assert [row["input"] for row in told["separated"]] == [str(song)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["song"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "signature", "--stems", "guitar"], ["guitar", "vocals, drums, bass, other"]),
        (["--model", "nonsense"], ["nonsense", ".safetensors"]),
        (["--model", "missing.safetensors"], ["missing.safetensors"]),
        (["--model", "signature", "--device", "tpu"], ["tpu", "cpu, cuda, auto"]),
    ],
)
def test_a_bad_choice_is_one_line_and_touches_nothing(song, arguments, words) -> None:
    assert_one_line(run(song, "--out", song.parent / "out", *arguments), *words)
    assert not (song.parent / "out").exists()


def test_cuda_is_refused_where_there_is_none(song, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_one_line(run(song, "--model", checkpoint, "--device", "cuda"), "CUDA", "--device cpu")


def test_a_place_that_takes_no_files_is_told_before_the_work(song) -> None:
    taken = song.parent / "taken"
    taken.write_text("a file")
    assert_one_line(run(song, "--out", taken, "--model", "signature"), "taken", "folder")


def test_an_interrupt_leaves_no_half_file(song, monkeypatch) -> None:
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("host.separate.separate_channels", interrupted)
    out = song.parent / "out"
    assert run(song, "--out", out, "--model", "signature").exit_code == 130
    assert list(out.rglob("*")) == []
