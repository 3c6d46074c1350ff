"""Own kernels of a RoFormer's layers: the masks of the plain ones; on a GPU, or as Triton interprets them."""

import dataclasses
import os

import pytest
import torch

from benchmarks.gpu_tiles import BANDS, TIME, Tiles
from model.config import ConfigError
from model.precision import lower_products
from tests.model.builders import noise
from tests.model.test_roformer import SHORT
from tests.model.test_windowed import network_of

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip("a GPU is here that this torch cannot use", allow_module_level=True)

from benchmarks.gpu_kernels import use_kernels  # noqa: E402

TINY = dataclasses.replace(SHORT, depth=1, heads=1, dim=24, bands=(16, 49), mel_bands=4)
TILES = dict.fromkeys((TIME, BANDS), Tiles((16, 16)))
GELU_TILES = Tiles((16, 32, 16))
VARIANTS = {
    "one layer each": {},
    "heads of 16, two layers over time": {"dim_head": 16, "time_depth": 2},
    "two blocks, two heads": {"depth": 2, "heads": 2, "dim_head": 4},
}


def masks(network, asked=slice(None), streams=1):
    audio = torch.from_numpy(noise(2 * streams, 600)).view(streams, 2, -1).to(DEVICE)
    with torch.inference_mode():
        return network.mask(network.stft(audio), asked)


@pytest.mark.parametrize("architecture", ["bs", "mel"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_kernels_give_the_masks_of_plain_layers(architecture, variant):
    network = network_of(dataclasses.replace(TINY, architecture=architecture, **VARIANTS[variant])).to(DEVICE)
    for name, weights in network.named_parameters():
        if "gamma" in name or "to_gates" in name:
            weights.data.add_(0.3 * torch.randn_like(weights))
    asked = slice(12, 18)  # of 19 frames, more than a block holds
    plain = masks(network, asked, streams=2)
    use_kernels(network, attention_tiles=TILES, gelu_tiles=GELU_TILES)
    torch.testing.assert_close(masks(network, asked, streams=2), plain, rtol=0, atol=1e-5)
    assert plain.abs().max() > 0.1


@pytest.mark.parametrize("gelu", [GELU_TILES, None], ids=["own GELU", "GELU by torch"])
def test_in_float16_they_are_as_near_to_float32_as_plain_layers(gelu):
    network = network_of(TINY).to(DEVICE)
    exact = masks(network)
    lower_products(network, torch.float16)
    plain = masks(network)
    use_kernels(network, attention_tiles=TILES, gelu_tiles=gelu)
    error, allowed = (
        float((found - exact).abs().square().mean().sqrt()) for found in (masks(network), plain)
    )
    assert 0 < error < 1.2 * allowed


def test_what_they_do_not_cover_is_refused():
    with pytest.raises(ConfigError, match="linear attention"):
        use_kernels(network_of(dataclasses.replace(SHORT, linear_depth=1)))
