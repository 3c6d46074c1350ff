"""A captured hop gives what the uncaptured one gives, in place; without a tracer the hop stays as it was."""

import dataclasses

import pytest
import torch

from model.causal_stream import CausalStream
from model.compromise import Compromise
from model.config import CausalConfig
from model.graph import capture_hop
from model.profiles import PROFILES
from tests.model.builders import SMALL_LIVE, noise, random_model, small

MONO = dataclasses.replace(SMALL_LIVE, channels=1, stem_names=("vocals", "drums"))
DIAL = dataclasses.replace(small("studio"), look_aheads=(2, 8))


def hops_of(config: CausalConfig, hops: int) -> tuple[torch.Tensor, ...]:
    audio = torch.from_numpy(noise(config.channels, hops * config.hop_frames))
    return torch.split(audio, config.hop_frames, dim=-1)


@pytest.mark.parametrize("config", [*map(small, PROFILES), DIAL, MONO, CausalConfig()])
def test_captured_hops_equal_uncaptured_ones_across_resets(config: CausalConfig) -> None:
    model = random_model(config)
    plain, captured = CausalStream(model), CausalStream(model)
    process = capture_hop(captured)
    assert process != captured.process
    with torch.inference_mode():
        for _ in range(2):
            for audio in hops_of(config, config.past_frames + 20):
                torch.testing.assert_close(process(audio), plain.process(audio), rtol=0, atol=1e-4)
            plain.reset()
            captured.reset()


def test_without_a_tracer_the_hop_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not supported here")

    monkeypatch.setattr(torch.jit, "trace_module", refuse)
    stream = CausalStream(random_model())
    with pytest.warns(Compromise, match="torch cannot trace it .not supported here"):
        assert capture_hop(stream) == stream.process
