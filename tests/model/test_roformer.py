"""Both architectures against the oracle package: keys, masks for identical spectrograms, whole signals."""

import dataclasses

import pytest
import torch
from torch import Tensor

from model.config import RoformerConfig
from model.roformer import build
from tests.model.roformer_oracle import noise, oracle_of, oracle_run, pair_of

SHORT = RoformerConfig(
    16,
    2,
    stem_names=("a", "b"),
    heads=2,
    dim_head=8,
    bands=(2,) * 8 + (4,) * 4 + (33,),
    mel_bands=8,
    n_fft=128,
    win_frames=128,
    stft_hop_frames=32,
)
"""Bands and windows a sixteenth of the published ones."""

LONG = RoformerConfig(24, 1, heads=2, dim_head=16, stft_hop_frames=441)
"""The published STFT and bands."""

VARIANTS = {
    "mono": (SHORT, {"channels": 1, "depth": 1, "stem_names": ("a",)}),
    "stereo": (SHORT, {"mask_depth": 3}),
    "shallow masks": (SHORT, {"mask_depth": 1, "win_frames": 96}),
    "deep layers": (
        SHORT,
        {"dim": 24, "depth": 3, "heads": 3, "dim_head": 4, "time_depth": 2, "freq_depth": 2},
    ),
    "four stems": (SHORT, {"stem_names": tuple("abcd"), "stft_hop_frames": 29, "time_depth": 2}),
    "wide masks": (SHORT, {"expansion": 2, "freq_depth": 3}),
    "hop 441": (LONG, {}),
    "hop 512, six stems": (LONG, {"stem_names": tuple("abcdef"), "stft_hop_frames": 512, "expansion": 2}),
}
GRID = [
    pytest.param(dataclasses.replace(base, architecture=architecture, **changes), id=f"{architecture} {name}")
    for architecture in ("bs", "mel")
    for name, (base, changes) in VARIANTS.items()
]


def mask_pair(config: RoformerConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    oracle, ours = pair_of(config, dtype)
    audio = noise(config, dtype)
    with torch.no_grad():
        return ours.mask(ours.stft(audio)), oracle_run(oracle, config, audio)[0]


@pytest.mark.parametrize("config", GRID)
def test_checkpoints_load_strictly_both_ways(config: RoformerConfig) -> None:
    oracle, ours = oracle_of(config, torch.float32), build(config)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in oracle.state_dict().items()}
    ours.load_state_dict(oracle.state_dict(), strict=True)
    oracle.load_state_dict(ours.state_dict(), strict=True)


@pytest.mark.parametrize("config", GRID)
def test_mask_equals_the_oracle_in_float64(config: RoformerConfig) -> None:
    actual, expected = mask_pair(config, torch.float64)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", GRID)
def test_mask_equals_the_oracle_in_float32(config: RoformerConfig) -> None:
    actual, expected = mask_pair(config, torch.float32)
    error_rms, mask_rms = (x.abs().square().mean().sqrt() for x in (actual - expected, expected))
    assert error_rms < 1e-5 * mask_rms


@pytest.mark.parametrize("config", GRID)
def test_audio_equals_the_oracle(config: RoformerConfig) -> None:
    oracle, ours = pair_of(config)
    audio = noise(config, torch.float64)
    expected = oracle_run(oracle, config, audio)[1].reshape(2, config.stems, config.channels, -1)
    with torch.no_grad():
        actual = ours(audio)
    assert actual.shape == (2, config.stems, config.channels, audio.shape[-1])
    torch.testing.assert_close(actual[..., : expected.shape[-1]], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_gradients_equal_the_oracle(architecture: str) -> None:
    config = dataclasses.replace(SHORT, architecture=architecture)
    oracle, ours = pair_of(config)
    audio = noise(config, torch.float64)
    for model in (oracle, ours):
        model(audio)[..., : 8 * config.stft_hop_frames].square().sum().backward()
    expected = {name: parameter.grad for name, parameter in oracle.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("positions", [1, 40, 4096])
def test_slices_of_rows_do_not_change_the_result(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, ours = pair_of(SHORT)
    audio = noise(SHORT, torch.float64, batch=3)
    monkeypatch.setattr("model.layers.SLICE_POSITIONS", positions)
    with torch.no_grad():
        mask = ours.mask(ours.stft(audio))
    torch.testing.assert_close(mask, oracle_run(oracle, SHORT, audio)[0], rtol=0, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_the_mask_on_a_gpu_is_the_one_on_the_cpu_and_deterministic(architecture: str) -> None:
    config = dataclasses.replace(LONG, architecture=architecture)
    _, ours = pair_of(config)
    spectrum = ours.stft(noise(config, torch.float64))
    with torch.no_grad():
        expected = ours.mask(spectrum)
        first, second = (ours.cuda().mask(spectrum.cuda()).cpu() for _ in range(2))
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-9)
    assert torch.equal(first, second)
