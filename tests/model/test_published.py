"""What a published file says of itself, and what it is refused for."""

import collections
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.checkpoint import fill
from model.published import PublishedError, configure, infer, plain_names, unwrap
from tests.model.published_files import BS, MEL, oracle, weights_of

TOLD = {"stem_names": ("vocals", "other"), "stft_hop_frames": 441, "chunk_frames": 44100, "zero_dc": False}
MEL_TOLD = TOLD | {"channels": 2, "n_fft": 2048}
STATE = {"layers.0.weight": torch.ones(2), "band_split.bias": torch.zeros(3)}
WRAPPED: list[Callable[[dict[str, Tensor]], object]] = [
    lambda state: state,
    collections.OrderedDict,
    lambda state: {"state_dict": state},
    lambda state: {"state": state},
    lambda state: {"model": state},
    lambda state: {"state": {"state_dict": state}},
    lambda state: {
        "epoch": 7,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "all_metrics": {"sdr": [9.6]},
    },
    lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    lambda state: {"state_dict": {f"model._orig_mod.{name}": tensor for name, tensor in state.items()}},
]


def shapes_of(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_every_wrapper_gives_the_same_tensors(wrap: Callable) -> None:
    found = unwrap(wrap(STATE))
    assert found.keys() == STATE.keys()
    assert all(found[name] is STATE[name] for name in STATE)


def test_a_prefix_goes_only_where_every_name_has_it() -> None:
    names = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert plain_names(names).keys() == names.keys()


def looped() -> dict:
    content: dict = {}
    content["state_dict"] = content
    return content


@pytest.mark.parametrize("content", [{}, [1], None, {"state_dict": {}}, {"a": 1}, {"a": STATE}, looped()])
def test_what_holds_no_state_dict_is_refused(content: object) -> None:
    with pytest.raises(PublishedError, match="holds no state dict"):
        unwrap(content)


GRID = [
    {},
    {"dim": 24, "depth": 1, "num_stems": 4},
    {"heads": 3, "dim_head": 4, "stereo": False, "num_stems": 1},
    {"mask_estimator_depth": 3, "time_transformer_depth": 2},
    {"mask_estimator_depth": 1, "freq_transformer_depth": 3},
]


@pytest.mark.parametrize("base", [BS, MEL], ids=["bs", "mel"])
@pytest.mark.parametrize("changes", GRID, ids=str)
def test_what_shapes_tell(base: dict, changes: dict) -> None:
    settings = base | changes
    stated = {**MEL_TOLD, "channels": 1 + settings["stereo"]} if base is MEL else TOLD
    stems = tuple(f"stem {i}" for i in range(settings["num_stems"]))
    config = configure(shapes_of(weights_of(settings)), {**stated, "stem_names": stems})
    assert config.architecture == ("bs" if base is BS else "mel")
    assert (config.dim, config.depth, config.stem_names) == (settings["dim"], settings["depth"], stems)
    assert (config.heads, config.dim_head) == (settings["heads"], settings["dim_head"])
    assert config.mask_depth == settings["mask_estimator_depth"]
    assert config.time_depth == settings["time_transformer_depth"]
    assert config.freq_depth == settings["freq_transformer_depth"]
    assert (config.channels, config.n_fft, config.win_frames) == (1 + settings["stereo"], 2048, 2048)
    assert (len(config.band_bins), config.linear_depth) == (62 if base is BS else 60, 0)
    assert (config.stft_hop_frames, config.chunk_frames, config.skip_connection) == (441, 44100, False)


def test_expansion_and_linear_attention_are_told() -> None:
    shapes = shapes_of(weights_of(BS))
    wider = {
        name: (32, *shape[1:]) if name.endswith(".0.0.0.weight") and "mask" in name else shape
        for name, shape in shapes.items()
    }
    assert infer(wider)["expansion"] == 2 and infer(shapes)["expansion"] == 4
    moved = {name.replace("layers.0.1.", "layers.0.2."): shape for name, shape in shapes.items()}
    moved |= {name.replace("layers.0.0.", "layers.0.1."): shape for name, shape in shapes.items()
              if name.startswith("layers.0.0.")}  # fmt: skip
    assert (infer(moved)["linear_depth"], infer(shapes)["linear_depth"]) == (1, 0)


@pytest.mark.parametrize(("settings", "stated"), [(BS, TOLD), (MEL, MEL_TOLD)], ids=["bs", "mel"])
def test_the_network_computes_what_the_reference_does(settings: dict, stated: dict) -> None:
    weights = weights_of(settings)
    network = fill(configure(shapes_of(weights), stated), weights, Path("x"))
    audio = 0.1 * torch.randn(1, 2, 9000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours, theirs = network(audio), oracle(settings)(audio)
    shared = min(ours.shape[-1], theirs.shape[-1])
    assert theirs.abs().max() > 1e-4
    torch.testing.assert_close(ours[..., :shared], theirs[..., :shared], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "both"),
    [
        ("dim", 32, ("32", "16")),
        ("depth", 12, ("12", "2")),
        ("architecture", "mel", ("mel", "bs")),
        ("heads", 8, ("8", "2")),
        ("dim_head", 64, ("64", "8")),
        ("mask_depth", 1, ("1", "2")),
        ("expansion", 2, ("2", "4")),
        ("linear_depth", 1, ("1", "0")),
        ("n_fft", 4096, ("4096", "2048")),
        ("channels", 1, ("1", "2")),
        ("stems", 3, ("3", "2")),
        ("bands", (1025,), ("1025", "128, 129")),
    ],
)
def test_a_contradiction_names_both_values(name: str, value: object, both: tuple[str, str]) -> None:
    with pytest.raises(
        PublishedError, match=f"{name} is .* in the configuration but .* in the weights"
    ) as caught:
        configure(shapes_of(weights_of(BS)), {**TOLD, name: value})
    said = str(caught.value)
    assert said.index(both[0]) < said.index("but") < said.rindex(both[1]) and "\n" not in said


def test_a_mel_model_contradicts_by_its_bands() -> None:
    shapes = shapes_of(weights_of(MEL))
    with pytest.raises(PublishedError, match="mel_bands is 64 in the configuration but 60 in the weights"):
        configure(shapes, {**MEL_TOLD, "mel_bands": 64})
    with pytest.raises(
        PublishedError, match=r"band 0 takes .* values by the configuration .* but .* in the weights"
    ):
        configure(shapes, {**MEL_TOLD, "n_fft": 4096})
    with pytest.raises(PublishedError, match="channels is 1 in the configuration but 2 in the weights"):
        configure(shapes, {**MEL_TOLD, "channels": 1})
    with pytest.raises(PublishedError, match=r"names 1 stems .vocals., but the weights hold 2"):
        configure(shapes, {**MEL_TOLD, "stem_names": ("vocals",)})


@pytest.mark.parametrize(
    "name", ["stem_names", "stft_hop_frames", "chunk_frames", "zero_dc", "channels", "n_fft"]
)
def test_what_nobody_tells_is_named(name: str) -> None:
    stated = {key: value for key, value in MEL_TOLD.items() if key != name}
    with pytest.raises(
        PublishedError, match=rf"neither weights nor configuration tell {name} \(in a YAML: \w+\.\w+"
    ):
        configure(shapes_of(weights_of(MEL)), stated)


@pytest.mark.parametrize(
    ("key", "variant"),
    [
        ("layers.1.0.layers.0.0.to_value_residual_mix.weight", "value residual"),
        ("layers.0.0.layers.0.0.pope_embed.bias", "PolarFormer"),
        ("layers.0.0.layers.0.ff1.ff.net.1.weight", "Conformer"),
        ("layers.0.0.layers.0.conv.net.2.weight", "Conformer"),
        ("mask_estimators.0.segm.backbone.weight", "HyperACE"),
        ("mask_estimators.0.to_freqs.0.0.fno_blocks.convs.0.weight", "FNO"),
        ("layers.0.0.layers.0.0.static_alpha", "hyper-connections"),
        ("layers.0.0.layers.0.0.branch.norm.gamma", "hyper-connections"),
        ("layers.0.0.layers.0.0.to_qkv.bias", "use_shared_bias"),
        ("layers.0.0.layers.0.0.to_qkv.lora_A.weight", "LoRA"),
    ],
)
def test_variants_are_refused_by_name(key: str, variant: str) -> None:
    with pytest.raises(PublishedError, match=f"uses .*{variant}.*is not supported") as caught:
        configure({**shapes_of(weights_of(BS)), key: (1,)}, TOLD)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "shapes",
    [
        {"conv.weight": (3, 3)},
        {"layers.0.0.layers.0.0.to_gates.weight": (0, 0)},
        {"final_norm.gamma": (1,), "layers.0.1.layers.0.0.to_gates.weight": (1, 2, 3)},
    ],
)
def test_other_networks_are_refused_in_one_line(shapes: dict) -> None:
    with pytest.raises(PublishedError, match="not those of a RoFormer") as caught:
        configure(shapes, TOLD)
    assert "\n" not in str(caught.value)
