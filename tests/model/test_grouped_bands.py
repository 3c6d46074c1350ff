"""Bands in groups: the same masks from the same weights, in far fewer calls."""

import dataclasses
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model.bands import BS_BANDS
from model.config import RoformerConfig
from model.grouped_bands import group_bands, width_groups
from model.precision import lower_products
from model.roformer import Roformer, build
from tests.model.test_roformer import GRID, SHORT


def spectrum_of(config: RoformerConfig, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    shape = (2, config.channels, config.n_fft // 2 + 1, 9, 2)
    return torch.view_as_complex(torch.randn(shape, generator=generator, dtype=torch.float64)).to(
        torch.complex128 if dtype == torch.float64 else torch.complex64
    )


def network_of(config: RoformerConfig, dtype: torch.dtype = torch.float32) -> Roformer:
    torch.manual_seed(6)
    network = build(config).eval().to(dtype)
    for parameter in network.mask_estimators.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # biases are not 0 in real checkpoints
    return network


@torch.no_grad()
def masks_alone_and_grouped(network: Roformer, spectrum: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    alone = network.mask(spectrum, slice(3, 7))
    group_bands(network)
    return alone, network.mask(spectrum, slice(3, 7))


@pytest.mark.parametrize("config", GRID)
def test_masks_are_the_same(config: RoformerConfig) -> None:
    spectrum = spectrum_of(config, torch.float64)
    alone, grouped = masks_alone_and_grouped(network_of(config, torch.float64), spectrum)
    torch.testing.assert_close(grouped, alone, rtol=0, atol=1e-9)
    assert alone.abs().max() > 0.1


def test_a_network_may_be_grouped_twice() -> None:
    network = build(SHORT).eval()
    audio = torch.randn(1, 2, 1024)
    with torch.no_grad():
        expected = network(audio)
        for _ in range(2):
            group_bands(network)
            torch.testing.assert_close(network(audio), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_in_float16_they_are_as_exact_as_band_by_band(architecture: str) -> None:
    config = dataclasses.replace(SHORT, architecture=architecture)
    spectrum = spectrum_of(config, torch.float32)
    network = network_of(config)
    with torch.no_grad():
        exact = network.mask(spectrum, slice(3, 7))
    lower_products(network, torch.float16)
    alone, grouped = masks_alone_and_grouped(network, spectrum)
    assert grouped.dtype == torch.complex64
    errors = [(found - exact).abs().square().mean().sqrt() for found in (alone, grouped)]
    assert 0 < errors[1] < 1.2 * errors[0]


def test_neighbours_of_about_one_width_go_together() -> None:
    assert width_groups([2, 2, 3, 4, 4, 100]) == [range(0, 3), range(3, 5), range(5, 6)]
    assert width_groups([7]) == [range(0, 1)]
    assert len(width_groups(BS_BANDS)) == 6


class Calls(TorchDispatchMode):
    """Counts what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function.overloadpacket)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_calls_are_few(architecture: str) -> None:
    """Of the published bands; the transformers' own are the same either way."""
    config = RoformerConfig(8, 1, architecture=architecture, heads=1, dim_head=8, stft_hop_frames=441)
    network, spectrum = network_of(config), spectrum_of(config, torch.float32)
    with torch.no_grad(), Calls() as alone:
        network.mask(spectrum)
    group_bands(network)
    with torch.no_grad(), Calls() as grouped:
        network.mask(spectrum)
    assert grouped.counts.total() < alone.counts.total() / 4
