"""`stembridge separate`: any rate and channel count in, the same out; one line for every mistake."""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.progress import Progress

from host.audio_files import read_audio, write_audio
from host.cli import main
from host.library import RECORD
from host.progress import LibraryBars
from model.checkpoint import ModelCard, load_model, save_checkpoint
from model.chunks import forward_of, msst_recipe, paper_recipe, separate_chunks
from model.config import RoformerConfig
from model.offline import separate as separate_whole
from model.pieces import augmented
from model.roformer import build
from tests.model.builders import random_model

STEMS = ["vocals", "drums", "bass", "other"]


def noise(channels, frames, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(main, ["separate", *map(str, arguments)])


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


def test_only_the_wanted_stems_are_written(song) -> None:
    out = song.parent / "out"
    result = run(song, "--out", out, "--model", "signature", "--stems", "bass, vocals", "--json")
    assert sorted(path.name for path in (out / "song").iterdir()) == ["bass.wav", RECORD, "vocals.wav"]
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
    assert len(lines) == 5 and all(any(path.name in line for line in lines) for path in bad)
    told = json.loads(result.stdout)
    assert {row["input"] for row in told["failed"]} == {str(path) for path in bad}
    assert [row["input"] for row in told["separated"]] == [str(song)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["song"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "signature", "--stems", "guitar"], ["guitar", "vocals, drums, bass, other"]),
        (["--model", "nonsense"], ["nonsense", ".safetensors"]),
        (["--model", "missing.safetensors"], ["missing.safetensors"]),
        (["--model", "signature", "--device", "tpu"], ["tpu", "'cpu', 'cuda', 'auto'"]),
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


def test_a_bad_choice_of_files_or_recipe_is_one_line(song, checkpoint) -> None:
    out = song.parent / "out"
    for arguments, words in (
        (["--format", "flac", "--bits", "float"], ["--bits 24", "--format wav"]),
        (["--recipe", "paper", "--overlap", "2"], ["--overlap"]),
        (["--model", checkpoint, "--overlap", "2"], ["without chunks", "--overlap"]),
        (["--model", checkpoint, "--precision", "bf16"], ["fp32", "--precision"]),
    ):
        assert_one_line(run(song, "--out", out, "--device", "cpu", *arguments), *words)
    assert not out.exists()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small published model whose chunk is a tenth of a second."""
    torch.manual_seed(5)
    sizes = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "mask_depth": 1}
    config = RoformerConfig(**sizes, stem_names=("vocals", "other"), chunk_frames=4410)
    path = tmp_path_factory.mktemp("model") / "published.safetensors"
    save_checkpoint(path, build(config), ModelCard("CC0-1.0", "random", "random weights"))
    return path


def test_a_published_model_gives_what_its_recipe_gives(song, published) -> None:
    out, audio = song.parent / "out", read_audio(song)[0]
    network = load_model(str(published))[0]
    for arguments, recipe in (
        ([], msst_recipe(4410, 4)),
        (["--overlap", "2", "--tta", "--batch", "2", "--threads", "1"], msst_recipe(4410, 2)),
        (["--recipe", "paper", "--precision", "fp32"], paper_recipe(44100)),
    ):
        separate = partial(separate_chunks, forward_of(network, "fp32"), recipe)
        separate = augmented(separate) if "--tta" in arguments else separate
        expected = np.concatenate(list(separate([audio])), axis=-1)
        result = run(song, "--out", out, "--model", published, "--device", "cpu", "--overwrite", *arguments)
        assert result.exit_code == 0, result.output
        for name, stem in zip(("vocals", "other"), expected, strict=True):
            np.testing.assert_allclose(read_audio(out / "song" / f"{name}.wav")[0], stem, atol=1e-6)


def library(folder):
    """Five songs in two folders, two of them of one name."""
    names = ["a/one.wav", "a/two.wav", "a/deep/three.wav", "b/one.wav", "b/four.wav"]
    for seed, name in enumerate(names):
        write_audio(folder / name, noise(2, 3000 + seed, seed), 44100)
    return names


def test_a_folder_keeps_its_shape_and_a_second_run_does_nothing(tmp_path) -> None:
    names, out = library(tmp_path / "music"), tmp_path / "music" / "stems"
    first = json.loads(run(tmp_path / "music", "--out", out, "--model", "signature", "--json").stdout)
    assert len(first["separated"]) == 5
    assert sorted(path.parent.relative_to(out) for path in out.rglob(RECORD)) == sorted(
        Path(name).with_suffix("") for name in names
    )
    when = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
    again = json.loads(run(tmp_path / "music", "--out", out, "--model", "signature", "--json").stdout)
    assert (again["separated"], len(again["done_before"]), again["failed"]) == ([], 5, [])
    assert when == {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}


def test_a_run_into_the_folder_of_the_songs_leaves_its_own_stems_alone(song) -> None:
    folder = song.parent
    told = [
        json.loads(run(folder, "--out", folder, "--model", "signature", "--json").stdout) for _ in range(3)
    ]
    assert [(len(one["separated"]), len(one["done_before"])) for one in told] == [(1, 0), (0, 1), (0, 1)]
    assert [path.parent for path in folder.rglob(RECORD)] == [folder / "song"]


@pytest.mark.parametrize("change", [["--residual"], ["--stems", "bass"], ["--overwrite"]])
def test_other_settings_or_a_wish_do_it_again(song, change) -> None:
    base = (song, "--out", song.parent / "out", "--model", "signature", "--json")
    assert len(json.loads(run(*base).stdout)["separated"]) == 1
    assert len(json.loads(run(*base, *change).stdout)["separated"]) == 1


def test_a_changed_input_is_done_again(song) -> None:
    base = (song, "--out", song.parent / "out", "--model", "signature", "--json")
    run(*base)
    write_audio(song, noise(2, 4000, 1), 44100)
    assert json.loads(run(*base).stdout)["separated"][0]["frames"] == 4000


def test_a_killed_run_goes_on_at_the_next_file(tmp_path, checkpoint) -> None:
    for name, frames in (("1", 4410), ("2", 30 * 44100), ("3", 4410)):
        write_audio(tmp_path / "in" / f"{name}.wav", noise(2, frames), 44100)
    out = tmp_path / "out"
    command = ["separate", tmp_path / "in", "--out", out, "--model", checkpoint, "--device", "cpu", "--json"]
    child = subprocess.Popen([sys.executable, "-m", "host", *map(str, command)], stdout=subprocess.PIPE)
    while not list(out.glob(".2.*.part/.*")):  # in the middle of the second
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == ["1"]
    first = (out / "1" / "vocals.wav").stat().st_mtime_ns
    told = json.loads(run(*command[1:]).stdout)
    assert [Path(row["input"]).name for row in told["separated"]] == ["2.wav", "3.wav"]
    assert [Path(row["input"]).name for row in told["done_before"]] == ["1.wav"]
    assert (out / "1" / "vocals.wav").stat().st_mtime_ns == first
    assert sorted(path.name for path in out.iterdir()) == ["1", "2", "3"]  # and no leftovers


def test_lower_levels_are_said(song) -> None:
    write_audio(song, 20 * noise(2, 5000), 44100)
    result = run(song, "--out", song.parent / "out", "--model", "signature", "--bits", "24")
    assert result.exit_code == 0
    assert "dB lower, else one would clip" in result.stdout


def test_the_bar_of_a_library_counts_files_and_parts() -> None:
    bars = Progress(disable=True)
    library_bar = LibraryBars(bars, 3)
    library_bar.advance(Path("a"), 0.25)
    library_bar.advance(Path("b"), 0.5)
    assert [(task.description, task.completed) for task in bars.tasks] == [
        ("3 files", 0.75),
        ("a", 0.25),
        ("b", 0.5),
    ]
    library_bar.end(Path("a"))
    library_bar.end(Path("b"), 0.0)  # to be begun again
    library_bar.end(Path("c"))  # failed before it began
    assert [(task.description, task.completed) for task in bars.tasks] == [("3 files", 2.0)]
