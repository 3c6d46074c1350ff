"""A compiled hop gives what the plain one gives, in place; where that cannot be, the hop stays as it was."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from model.causal import CausalBSRoformer
from model.causal_stream import CausalStream
from model.compiled_hop import CompiledHop
from model.compromise import Compromise
from model.config import CausalConfig
from model.graph import capture_hop
from model.profiles import PROFILES
from tests.model.builders import SMALL_LIVE, noise, random_model, small

MONO = dataclasses.replace(SMALL_LIVE, channels=1, stem_names=("vocals", "drums"))
DIAL = dataclasses.replace(small("studio"), look_aheads=(2, 8))
UNEVEN = dataclasses.replace(
    SMALL_LIVE, dim=20, heads=3, dim_head=6, mask_hidden=5, past_frames=19, bands=(1, 3, 7, 25, 100, 300, 589)
)
"""Nothing in it fills a tile."""


def hops_of(config: CausalConfig, hops: int) -> tuple[torch.Tensor, ...]:
    audio = torch.from_numpy(noise(config.channels, hops * config.hop_frames))
    return torch.split(audio, config.hop_frames, dim=-1)


def assert_same_stems(model: CausalBSRoformer, capacity: int) -> CompiledHop:
    """Of the compiled hop and the plain one, over two runs; returns the former."""
    config, plain, captured = model.config, CausalStream(model), CausalStream(model, capacity)
    process = capture_hop(captured)
    assert process
    with torch.inference_mode():
        for _ in range(2):
            for audio in hops_of(config, config.past_frames + 20):
                torch.testing.assert_close(process(audio), plain.process(audio), rtol=0, atol=1e-4)
            plain.reset()
            captured.reset()
    return process


@pytest.mark.parametrize("config", [*map(small, PROFILES), DIAL, MONO, UNEVEN, CausalConfig()])
@pytest.mark.parametrize("capacity", [1, 3])
def test_captured_hops_equal_uncaptured_ones_across_resets(config: CausalConfig, capacity: int) -> None:
    assert_same_stems(random_model(config), capacity)


@pytest.mark.parametrize("config", [SMALL_LIVE, UNEVEN])
def test_rounded_weights_are_read_as_halves(config: CausalConfig) -> None:
    network = assert_same_stems(random_model(config).round_band_weights(), 1).network
    weights = (network.bands.weights, network.masking.hidden, network.masking.outputs)
    assert all(weight.dtype == np.uint16 for weight in weights)


@pytest.mark.parametrize("kind", ["keys", "values"])
def test_what_is_no_number_in_the_past_is_heard(kind: str) -> None:
    """So that the separator's process sees that its state is spoilt, and resets it."""
    stream = CausalStream(random_model())
    process = capture_hop(stream)
    hops = hops_of(SMALL_LIVE, 3)
    assert torch.isfinite(process(hops[0])).all()
    getattr(stream.state.caches[0], kind)[3] = torch.nan
    process(hops[1])
    assert not torch.isfinite(process(hops[2])).all()
    stream.reset()
    assert torch.isfinite(process(hops[0])).all()


def test_without_numba_the_hop_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model.compiled_hop", None)
    stream = CausalStream(random_model())
    with pytest.warns(Compromise, match="three times slower: it cannot be compiled"):
        assert capture_hop(stream) is None
