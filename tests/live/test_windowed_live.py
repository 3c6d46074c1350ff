"""A published model in the live engine: its declared latency, and its stems at the declared frames."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from host.audio_files import read_audio
from host.cli import main
from host.models import Execution, ModelError, describe, from_anywhere, open_separator
from host.stem_files import model_hash
from model import devices, separators
from model.checkpoint import ModelCard, save_checkpoint
from model.config import WHOLE_SIGNAL, RoformerConfig
from model.roformer import build
from model.windowed import WindowedSeparator
from tests.model.builders import SMALL_LIVE, random_model
from tests.model.test_windowed import unity_masks

FRAMING = "13230/4410/2205/441"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The published STFT and bands with little inside; every mask is 1."""
    torch.manual_seed(1)
    sizes = {"heads": 1, "dim_head": 8, "stft_hop_frames": 441, "mask_depth": 1}
    config = RoformerConfig(8, 1, stem_names=("vocals", "other"), **sizes)
    path = tmp_path_factory.mktemp("model") / "unity.safetensors"
    save_checkpoint(path, unity_masks(build(config)), ModelCard("MIT", "test", ""))
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_stems_alone_are_the_delayed_input_and_the_null_holds(checkpoint, tmp_path):
    short = ("--seconds", 2, "--json", "--out", tmp_path / "out")
    result = run("demo", "--model", checkpoint, "--framing", FRAMING, *short)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["latency_frames"] > 4410 + 441 + 2205
    assert said["null_residual_db"] < -120
    mix = read_audio(tmp_path / "out" / "mix.wav")[0]
    for stem in ("vocals", "other"):
        sound = read_audio(tmp_path / "out" / f"{stem}.wav")[0]
        heard = np.flatnonzero(np.abs(sound).max(axis=0))
        assert len(heard) > 0.9 * mix.shape[1]
        np.testing.assert_allclose(sound, mix, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("framing", "frames"), [("gpu", 4410), ("studio", 9261), (FRAMING, 7056), ("22050/882/2205/441", 3528)]
)
def test_the_latency_is_known_without_running(checkpoint, framing, frames):
    facts = describe(str(checkpoint), 44100, Execution(framing))
    assert facts.latency_frames == frames
    opened = open_separator(str(checkpoint), 44100, Execution(framing))
    told = (facts.stem_names, facts.window_frames, facts.hop_frames, facts.latency_frames)
    assert told == (opened.stem_names, opened.window_frames, opened.hop_frames, opened.latency_frames)


def test_the_command_adds_up_what_the_gpu_framing_takes(checkpoint):
    """2 s windows, hop 1764, look-ahead 2205, fade 441, allowance 441, constant blocks of 256."""
    result = run("latency", "--model", checkpoint, "--block", 256, "--allowance-ms", 10, "--json")
    said = json.loads(result.stdout)
    assert said["items"][0]["frames"] == 4410
    assert said["latency_frames"] == 4410 + 2 * 256 - 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--framing", "fast"), "is no framing"),
        (("--framing", ""), "is no framing"),
        (("--framing", "44100000/4410/2205/441"), "this model takes 1323000 or less"),
        (("--framing", "88200/1764/100/441"), "take a multiple of the STFT hop of 441"),
        (("--device", "cuda"), "No CUDA device can be used here"),
    ],
)
def test_what_cannot_be_run_is_one_line(checkpoint, tmp_path, arguments, complaint):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = run("demo", "--model", checkpoint, "--seconds", 1, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("execution", "remedy"),
    [(Execution("studio"), "leave out --framing"), (Execution(precision="fp16"), "leave out --precision")],
)
def test_a_causal_model_has_its_own_framing_and_precision(execution, remedy):
    for look in (describe, open_separator):
        with pytest.raises(ModelError, match=remedy):
            look("builtin", 44100, execution)


def test_a_dial_is_turned_by_the_name(tmp_path):
    network = random_model(dataclasses.replace(SMALL_LIVE, look_aheads=(0, 8, WHOLE_SIGNAL)))
    path = tmp_path / "dial.safetensors"
    save_checkpoint(path, network, ModelCard("MIT", "test", ""))
    for named, frames in (("", 882), ("@0", 882), ("@8", 4410), ("@all", 4410)):
        model = f"{path}{named}"
        assert describe(model, 44100).latency_frames == frames
        assert open_separator(from_anywhere(model), 44100).latency_frames == frames
    hashes = {model_hash(f"{path}{named}") for named in ("", "@8", "@all")}
    assert len(hashes) == 3
    refused = run("latency", "--model", f"{path}@3")
    assert refused.exit_code == 2 and "knows look-aheads of 0, 8, all, not 3" in refused.stderr


def test_one_of_ours_that_sees_everything_works_on_windows(tmp_path):
    network = random_model(dataclasses.replace(SMALL_LIVE, look_ahead_frames=WHOLE_SIGNAL))
    path = tmp_path / "unbounded.safetensors"
    save_checkpoint(path, network, ModelCard("MIT", "test", ""))
    facts = describe(str(path), 44100, Execution("22050/882/441/441"))
    assert (facts.window_frames, facts.hop_frames, facts.latency_frames) == (22050, 882, 1764)
    opened = open_separator(str(path), 44100, Execution("22050/882/441/441"))
    assert isinstance(opened, WindowedSeparator)
    assert (opened.window_frames, opened.latency_frames) == (22050, 1764)


@pytest.mark.parametrize(
    ("execution", "arguments"),
    [
        (Execution(precision="fp32"), ("cpu", True)),
        (Execution(device="cuda"), ("cuda", True)),
        (Execution(device="cuda", graphs="off"), ("cuda", False)),
    ],
)
def test_a_causal_model_goes_to_a_gpu_only_when_told(monkeypatch, execution, arguments):
    opened = []

    class Remembered(separators.CausalSeparator):
        def __init__(self, network, *how):
            opened.append(how)
            super().__init__(network)

    monkeypatch.setattr(devices, "cuda_trouble", lambda _cuda: "")
    monkeypatch.setattr(separators, "CausalSeparator", Remembered)
    open_separator("builtin", 44100, execution)
    assert opened == [arguments]
    assert describe("builtin", 44100, execution) == describe("builtin", 44100)


def test_a_causal_model_without_the_gpu_that_it_was_told_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "cuda_trouble", lambda _cuda: "no driver")
    with pytest.raises(devices.DeviceError, match=r"No CUDA device .* \(no driver\): choose --device cpu"):
        open_separator("builtin", 44100, Execution(device="cuda"))


def test_a_mono_model_is_for_files(tmp_path):
    config = RoformerConfig(8, 1, channels=1, heads=1, dim_head=8, stft_hop_frames=441, mask_depth=1)
    path = tmp_path / "mono.safetensors"
    save_checkpoint(path, build(config), ModelCard("MIT", "test", ""))
    for look in (describe, open_separator):
        with pytest.raises(ModelError, match="is mono, the live engine is stereo: use `stembridge separate`"):
            look(str(path), 44100)
