"""The YAML of published checkpoints: what it states is understood, what it must not do is refused."""

import os
from pathlib import Path

import pytest

from host.msst_yaml import MAX_BYTES, YamlError, published_settings, read_yaml
from model.bands import BS_BANDS
from tests.model.published_files import BS, MEL, config_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def settings_of(path: Path, text: str) -> dict:
    path.write_text(text)
    return published_settings(path)


def test_a_published_yaml_is_understood(path: Path) -> None:
    found = settings_of(path, config_text(BS))
    assert found == {
        "architecture": "bs",
        "dim": 16,
        "depth": 2,
        "stems": 2,
        "heads": 2,
        "dim_head": 8,
        "time_depth": 1,
        "freq_depth": 1,
        "bands": BS_BANDS,
        "n_fft": 2048,
        "stft_hop_frames": 441,
        "win_frames": 2048,
        "mask_depth": 2,
        "zero_dc": False,
        "channels": 2,
        "sample_rate_hz": 44100,
        "chunk_frames": 44100,
        "stem_names": ("vocals", "other"),
    }


def test_mel_bands_make_the_other_architecture(path: Path) -> None:
    found = settings_of(path, config_text(MEL))
    assert (found["architecture"], found["mel_bands"]) == ("mel", 60) and "bands" not in found


def test_the_target_alone_is_the_stem(path: Path) -> None:
    assert settings_of(path, config_text(BS, training={"target_instrument": "other"}))["stem_names"] == (
        "other",
    )


def test_the_channels_of_the_audio_count_where_the_model_says_nothing(path: Path) -> None:
    text = config_text(BS, model={"stereo": ...}, audio={"num_channels": 1})
    assert settings_of(path, text)["channels"] == 1


def test_the_chunk_of_inference_goes_before_that_of_training(path: Path) -> None:
    assert settings_of(path, config_text(BS, inference={"chunk_size": 88200}))["chunk_frames"] == 88200


def test_what_is_not_stated_is_left_out(path: Path) -> None:
    text = config_text(
        BS, audio={"chunk_size": ...}, model={"zero_dc": ..., "stereo": ..., "stft_hop_length": ...}
    )
    assert not {"chunk_frames", "zero_dc", "channels", "stft_hop_frames"} & settings_of(path, text).keys()


@pytest.mark.parametrize(("written", "read"), [("48e1", 480), ("4.8e2", 480), ("480.0", 480), ('"480"', 480)])
def test_numbers_that_yaml_takes_for_text_are_numbers(path: Path, written: str, read: int) -> None:
    text = config_text(BS, audio={"hop_length": ...}).replace("_hop_length: 441", f"_hop_length: {written}")
    assert settings_of(path, text)["stft_hop_frames"] == read


def test_a_learning_rate_in_scientific_notation_is_no_obstacle(path: Path) -> None:
    assert settings_of(path, config_text(BS).replace("lr: 5e-05", "lr: 5e-05 # text in YAML 1.1"))


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/name:os.system ''",
        "!!python/object/apply:os.system ['touch {canary}']",
        "!!python/object/new:os.system ['touch {canary}']",
        "!!python/module:os ''",
        "!!python/object:builtins.object {{}}",
        "!something 1",
    ],
)
def test_no_other_tag_is_resolved(path: Path, tmp_path: Path, tag: str) -> None:
    canary = tmp_path / "canary"
    text = config_text(BS) + f"extra: {tag.format(canary=canary)}\n"
    with pytest.raises(YamlError, match="could not determine a constructor") as caught:
        settings_of(path, text)
    assert not canary.exists() and "\n" not in str(caught.value)


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "billion laughs": (laughs(9), "more than 16 references"),
    "merged laughs": (
        "a: &a {x: 1}\n" + "\n".join(f"b{i}: &b{i} {{<<: [*a, *a, *a], y{i}: 1}}" for i in range(9)),
        "more than 16 references",
    ),
    "deep": ("a: " + "[" * 3000 + "]" * 3000, "nested more than 16 levels"),
    "itself": ("\n".join(f"c{i}: &c{i} [*c{i}]" for i in range(20)), "more than 16 references"),
    "large": ("a: " + "x" * MAX_BYTES, "larger than 256 kB"),
    "long number": ("a: " + "9" * 100_000, "cannot be read as a configuration"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_one_line(path: Path, name: str) -> None:
    text, message = BOMBS[name]
    with pytest.raises(YamlError, match=message) as caught:
        settings_of(path, text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just text",
        b"- a\n- list",
        b"\x00\x01\x02",
        b"\xff\xfe\xff\xfe",
        b"a: [1, 2",
        b"a: !!timestamp nonsense",
        b"a: !!int ''",
        b"a: !!bool maybe",
        b"{[1]: 2}",
        b"a: !!python/tuple 7",
        b"model: 7",
        b"audio: {chunk_size: 1}",
        b"model: [1]",
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(YamlError) as caught:
        published_settings(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(YamlError, match=f"{path} is no file"):
            read_yaml(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo") or os.name == "nt", reason="no named pipes here")
def test_a_pipe_does_not_stop_the_command(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(YamlError, match="is no file"):
        read_yaml(path)


VARIANTS = [
    ({"use_value_residual_learning": True}, "value residual learning"),
    ({"num_residual_streams": 4}, "hyper-connections"),
    ({"use_pope": True}, "PolarFormer"),
    ({"use_shared_bias": True}, "attention biases"),
    ({"stft_normalized": True}, "a normalised STFT"),
    ({"conv_kernel_size": 31}, "Conformer"),
    ({"time_conformer_depth": 1}, "Conformer"),
    ({"time_module_depth": 1}, "Mamba"),
    ({"segm_model": {"a": 1}}, "HyperACE"),
    ({"fno_modes": 64}, "FNO"),
]


@pytest.mark.parametrize(("changes", "variant"), VARIANTS, ids=str)
def test_variants_are_refused_by_name(path: Path, changes: dict, variant: str) -> None:
    with pytest.raises(YamlError, match=f"{variant}.*is not supported"):
        settings_of(path, config_text(BS, model=changes))


def test_variants_that_are_switched_off_are_no_obstacle(path: Path) -> None:
    off = {
        "use_value_residual_learning": False,
        "num_residual_streams": 1,
        "use_pope": False,
        "stft_normalized": False,
    }
    assert settings_of(path, config_text(BS, model=off))["dim"] == 16


def test_a_setting_that_might_change_the_result_is_not_ignored(path: Path) -> None:
    with pytest.raises(YamlError, match=r"model\.mystery is not known here"):
        settings_of(path, config_text(BS, model={"mystery": 1}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"dim": -1}}, "dim must be a whole number from 1, not -1"),
        ({"model": {"dim": 0.5}}, "dim must be a whole number"),
        ({"model": {"dim": 10**12}}, "dim must be a whole number"),
        ({"model": {"dim": True}}, "dim must be a whole number"),
        ({"model": {"dim": "nan"}}, "dim must be a whole number"),
        ({"model": {"depth": [1]}}, "depth must be a whole number"),
        ({"model": {"zero_dc": "yes"}}, "zero_dc must be true or false"),
        ({"model": {"stereo": 2}}, "stereo must be true or false"),
        ({"model": {"freqs_per_bands": 7}}, "freqs_per_bands must be a list"),
        ({"audio": {"chunk_size": 0}}, "chunk_size must be a whole number"),
        ({"model": {"num_stems": 0}}, "num_stems must be a whole number"),
        ({"audio": {"num_channels": 1}}, "audio.num_channels is 1 but model.stereo, True, says 2"),
        ({"audio": {"hop_length": 512}}, "audio.hop_length is 512 but model.stft_hop_length says 441"),
        ({"inference": {"normalize": True}}, "inference.normalize .* is not supported"),
        ({"training": {"instruments": "vocals"}}, "training.instruments must be a list"),
        ({"training": {"instruments": ["../../etc/passwd"]}}, "training.instruments must be a list"),
        ({"training": {"instruments": [["a"]]}}, "training.instruments must be a list"),
        ({"training": {"target_instrument": 7}}, "training.instruments must be a list"),
    ],
)
def test_impossible_values_are_refused_in_one_line(path: Path, changes: dict, message: str) -> None:
    with pytest.raises(YamlError, match=message) as caught:
        settings_of(path, config_text(BS, **changes))
    assert "\n" not in str(caught.value)
