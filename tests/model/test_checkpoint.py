"""Checkpoints: everything comes back, and everything wrong is one clear line."""

import dataclasses
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model import catalogue
from model.catalogue import CatalogueError
from model.checkpoint import CheckpointError, ModelCard, load_checkpoint, load_model, save_checkpoint
from model.config import WHOLE_SIGNAL, ConfigError, RoformerConfig
from model.header import header_of
from model.roformer import build
from tests.model.builders import SMALL_LIVE, random_model, small

CARD = ModelCard("CC0-1.0", "trained by a test", "# A card\n\nMore than one line, with ünïcode.")
Metadata = dict[str, str]
Weights = dict[str, Tensor]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "small.safetensors", random_model(), CARD)
    return tmp_path / "small.safetensors"


def change(path: Path, edit: Callable[[Metadata, Weights], object]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    edit(metadata, weights)
    save_file(weights, path, metadata)


def test_a_look_ahead_is_chosen_with_the_name(tmp_path):
    dial = random_model(dataclasses.replace(SMALL_LIVE, look_aheads=(0, 8, WHOLE_SIGNAL)))
    path = tmp_path / "dial.safetensors"
    save_checkpoint(path, dial, ModelCard("MIT", "test", ""))
    for named, frames in (("", 0), ("@0", 0), ("@8", 8), ("@all", WHOLE_SIGNAL)):
        network, _ = load_model(f"{path}{named}")
        assert network.config.look_ahead_frames == frames
        assert header_of(f"{path}{named}")[0] == network.config
        for name, weight in dial.state_dict().items():
            assert torch.equal(network.state_dict()[name], weight), name
    for look in (load_model, header_of):
        with pytest.raises(ConfigError, match="knows look-aheads of 0, 8, all, not 4"):
            look(f"{path}@4")


def test_a_look_ahead_that_is_not_known_is_called_as_it_was_asked_for(path: Path) -> None:
    said = "knows look-aheads of 0, not all: choose one that it knows, or a model trained for it"
    for look in (load_model, header_of):
        with pytest.raises(ConfigError, match=said):
            look(f"{path}@all")


def test_a_published_model_has_none_to_choose(tmp_path):
    path = tmp_path / "published.safetensors"
    save_checkpoint(path, build(RoformerConfig(8, 1, heads=1, dim_head=8)), ModelCard("MIT", "test", ""))
    for look in (load_model, header_of):
        with pytest.raises(ConfigError, match="no look-ahead to choose: leave @ out, see --framing"):
            look(f"{path}@8")


def test_round_trip_keeps_config_card_and_output(path: Path) -> None:
    model, card = load_checkpoint(path)
    original = random_model()
    audio = torch.randn(1, 2, 5000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model(audio), original(audio))
    assert model.config == original.config and card == CARD and not model.training
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_rounded_weights_take_half_of_a_file_and_come_back_as_they_were(path: Path) -> None:
    large, original = path.stat().st_size, random_model().round_band_weights()
    save_checkpoint(path, original, CARD)
    rounded = sum(original.get_parameter(name).numel() for name in original.band_weights)
    assert large - path.stat().st_size == pytest.approx(2 * rounded, abs=64)
    found = load_checkpoint(path)[0].state_dict()
    for name, weight in original.state_dict().items():
        assert torch.equal(found[name], weight), name
    assert set(original.band_weights) == {
        name
        for name in found
        if name.endswith("weight") and re.match("features|masks.(hidden|outputs)", name)
    }


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(tmp_path / "nowhere" / "a.safetensors", random_model(), CARD)


def set_nan(_: Metadata, weights: Weights) -> None:
    weights["masks.hidden.bias"][0, 0, 0] = torch.nan


def widen(_: Metadata, weights: Weights) -> None:
    weights["masks.norm.weight"] = torch.zeros(17)


BROKEN: list[tuple[Callable[[Metadata, Weights], object], str]] = [
    (lambda m, w: m.update(format="other-3"), "not a stembridge checkpoint"),
    (lambda m, w: m.pop("format"), "not a stembridge checkpoint"),
    (lambda m, w: m.pop("config"), "no usable configuration"),
    (lambda m, w: m.update(config="{"), "no usable configuration"),
    (lambda m, w: m.update(config="[1]"), "no usable configuration"),
    (lambda m, w: m.update(config='{"flux": 1}'), "unknown settings flux"),
    (lambda m, w: m.update(config=json.dumps({**json.loads(m["config"]), "depth": 3})), "missing blocks.2"),
    (
        lambda m, w: m.update(config=json.dumps({**json.loads(m["config"]), "depth": 1})),
        "unexpected blocks.1",
    ),
    (lambda m, w: w.pop("masks.norm.weight"), "missing masks.norm.weight"),
    (lambda m, w: w.update(extra=torch.zeros(1)), "unexpected extra"),
    (widen, r"masks.norm.weight has shape \[17\], not \[16\]"),
    (lambda m, w: w.update({"masks.norm.weight": torch.zeros(16, dtype=torch.int32)}), "not floating point"),
    (set_nan, "masks.hidden.bias holds NaN"),
]


@pytest.mark.parametrize(("edit", "message"), BROKEN)
def test_what_does_not_fit_is_refused_in_one_line(path: Path, edit: Callable, message: str) -> None:
    change(path, edit)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps({"state_dict": 1}), b"\xff" * 4096])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable safetensors file") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_and_a_missing_one_are_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable"):
        load_checkpoint(path)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            load_checkpoint(missing)


@pytest.fixture
def installed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with the default profile alone."""
    path.rename(path.parent / "builtin-live.safetensors")
    monkeypatch.setattr(catalogue, "WEIGHTS", path.parent)
    return path.parent


def test_catalogue_loads_profiles_and_paths(installed: Path) -> None:
    path = str(installed / "builtin-live.safetensors")
    assert all(load_model(model)[1] == CARD for model in ("builtin", "live", path))


def test_a_profile_is_there_as_soon_as_its_weights_are(installed: Path) -> None:
    with pytest.raises(
        CatalogueError, match=r"'stage' has no weights in this installation; known are: live;"
    ):
        load_model("stage")
    save_checkpoint(installed / "builtin-stage.safetensors", random_model(small("stage")), CARD)
    assert load_model("stage")[0].config.latency_frames == 588


def test_catalogue_lists_what_it_knows(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CatalogueError, match="unknown model 'htdemucs'; known are: live;") as caught:
        load_model("htdemucs")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(catalogue, "WEIGHTS", installed / "nowhere")
    with pytest.raises(CatalogueError, match="'live' has no weights in this installation; known are: none;"):
        load_model()


SMALL_ROFORMER = RoformerConfig(16, 2, stem_names=("vocals", "other"), heads=2, dim_head=8)
SMALL_MEL = dataclasses.replace(SMALL_ROFORMER, architecture="mel")


@pytest.mark.parametrize("config", [SMALL_ROFORMER, SMALL_MEL], ids=["bs", "mel"])
def test_published_networks_come_back_as_they_were(tmp_path: Path, config: RoformerConfig) -> None:
    torch.manual_seed(1)
    original = build(config).eval()
    save_checkpoint(tmp_path / "a.safetensors", original, CARD)
    network, card = load_checkpoint(tmp_path / "a.safetensors")
    assert type(network) is type(original) and network.config == config and card == CARD
    audio = torch.randn(1, 2, 5000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(network(audio), original(audio))


IMPOSSIBLE = [
    ({"depth": 9_999_999}, "depth is 9999999 in the configuration but 2 in the weights"),
    ({"dim": 1_000_000}, "dim is 1000000 in the configuration but 16 in the weights"),
    ({"mel_bands": 10**9}, "mel_bands is beyond all models"),
    ({"chunk_frames": 1e300}, "chunk_frames is beyond all models"),
    ({"stem_names": ["../../escaped", "other"]}, "'../../escaped' is no name for a stem"),
    ({"stem_names": ["a/b", "other"]}, "is no name for a stem"),
    ({"stem_names": [7, "other"]}, "7 is no name for a stem"),
    ({"stem_names": "vocals"}, "stem_names must be a list of names"),
    ({"stem_names": ["vocals"]}, "names 1 stems"),
    ({"bands": [-1, 1026]}, "bands"),
    ({"heads": 4, "dim_head": 4}, "heads is 4 in the configuration but 2 in the weights"),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE)
def test_a_configuration_that_asks_for_too_much_is_refused(
    tmp_path: Path, changes: dict, message: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, build(SMALL_ROFORMER), CARD)
    change(path, lambda m, w: m.update(config=json.dumps({**json.loads(m["config"]), **changes})))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 100_000}, "larger network"),
        ({"depth": 1_000_000}, "larger network"),
        ({"mask_hidden": 1_000_000}, "larger network"),
        ({"rotary_period": 10**7}, "too long"),
    ],
)
def test_a_causal_network_larger_than_its_weights_is_never_built(
    path: Path, changes: dict, message: str
) -> None:
    change(path, lambda m, w: m.update(config=json.dumps({**json.loads(m["config"]), **changes})))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)
