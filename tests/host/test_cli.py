"""The command line as a whole: every mistake in it is one line, every help text opens."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from host.audio_files import write_audio
from host.cli import COMMANDS, main
from model import catalogue
from model.catalogue import resolve
from model.checkpoint import ModelCard, save_checkpoint
from model.profiles import PROFILES
from tests.model.builders import random_model, small


def run(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="stembridge")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], ["'--nonsense'", "See `stembridge --help`."]),
        (["nonsense"], ["'nonsense'", "See `stembridge --help`."]),
        (["live", "--blok", "1"], ["'--blok'", "--block", "See `stembridge live --help`."]),
        (["live", "--block", "9999"], ["--block", "9999", "8192", "See `stembridge live --help`."]),
        (["live", "--block", "x"], ["--block", "'x'", "integer"]),
        (["live", "--preset", "x"], ["--preset", "'x'", "karaoke"]),
        (["live", "--out-channels", "1,1"], ["--out-channels", "two different"]),
        (["latency", "--rate"], ["--rate", "argument"]),
        (["evaluate"], ["Missing option", "--data"]),
        (["separate"], ["Missing argument", "IN..."]),
        (["doctor", "now"], ["unexpected extra argument", "now"]),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(arguments, words) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr


def test_no_command_shows_the_help() -> None:
    result = run()
    assert "Start here:" in result.output and "Error" not in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_opens(command) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--help" in result.stdout


@pytest.mark.parametrize("missing_bytes", [1, 1000, 3_000_000])
def test_latency_refuses_a_model_whose_weights_are_cut_off(tmp_path, missing_bytes) -> None:
    weights = resolve("builtin").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights[:-missing_bytes])
    result = run("latency", "--model", str(cut))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and "get it again" in result.stderr


@pytest.mark.parametrize(("profile", "frames"), [("stage", 588), ("live", 882), ("studio", 4410)])
def test_latency_is_the_sum_of_a_profile(profile, frames, tmp_path, monkeypatch) -> None:
    path = tmp_path / f"builtin-{profile}.safetensors"
    save_checkpoint(path, random_model(small(profile)), ModelCard("CC0-1.0", "test", ""))
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    result = run("latency", "--model", profile, "--block", "441", "--allowance-ms", "10", "--json")
    assert result.exit_code == 0, result.stderr
    budget = json.loads(result.stdout)
    buffering = 441 - math.gcd(441, PROFILES[profile].hop_frames)
    assert budget["latency_frames"] == frames + buffering
    assert {item["name"]: item["frames"] for item in budget["items"]}["model"] == frames


@pytest.mark.parametrize("command", ["latency", "live", "demo", "separate"])
def test_a_profile_without_weights_says_what_is_there(command, tmp_path, monkeypatch) -> None:
    save_checkpoint(tmp_path / "builtin-live.safetensors", random_model(), ModelCard("CC0-1.0", "test", ""))
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    song, out = tmp_path / "a.wav", ["--out", str(tmp_path / "out")]
    write_audio(song, np.zeros((2, 100), np.float32), 44100)
    others = {"separate": [str(song), *out], "demo": out}.get(command, [])
    result = run(command, *others, "--model", "studio")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and "no weights" in result.stderr and "live" in result.stderr
