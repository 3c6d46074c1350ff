"""A hop of the built-in models that comes out invalid: the worker resets them, and nothing of it stays."""

import numpy as np
import pytest
import torch

from model.profiles import PROFILES
from model.separators import CausalSeparator
from streaming.health import INVALID_HOPS, SEPARATOR
from streaming.worker import HopWorker
from tests.model.builders import noise, random_model, small
from tests.streaming.test_worker import health, timeline

HOPS = 60
TOLERANCE = 1e-4


class Run:
    """A model between timelines, fed hop by hop."""

    def __init__(self, profile: str, audio: np.ndarray) -> None:
        self.separator = CausalSeparator(random_model(small(profile)))
        self.separator.warm_up()
        self.audio, self.frames = audio, audio.shape[1]
        self.source, self.sinks = timeline(self.frames), [timeline(self.frames) for _ in range(4)]
        self.health = health()
        self.worker = HopWorker(self.source, self.sinks, self.separator, self.health)

    def feed(self, first_hop: int, end_hop: int) -> None:
        hop = self.separator.hop_frames
        for start in range(first_hop * hop, end_hop * hop, hop):
            self.source.write(start, np.ascontiguousarray(self.audio[:, start : start + hop]))
            assert self.worker.step()

    def spoil(self) -> None:
        """As a memory error or an overflow would."""
        for tensor in self.separator._stream.state.tensors:
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)

    def published(self, first: int, end: int) -> np.ndarray:
        out = np.zeros((4, 2, end - first), np.float32)
        for sink, stem in zip(self.sinks, out, strict=True):
            sink.read(first, stem)
        return out


@pytest.mark.parametrize("good_hops", [1, 8, 30])
@pytest.mark.parametrize("profile", PROFILES)
def test_after_an_invalid_hop_all_is_as_if_it_had_begun_there(profile: str, good_hops: int) -> None:
    hop = small(profile).hop_frames
    audio = noise(2, HOPS * hop)
    broken, fresh = Run(profile, audio), Run(profile, audio)
    broken.feed(0, good_hops)
    broken.spoil()
    broken.feed(good_hops, HOPS)
    assert broken.health.counters[SEPARATOR, INVALID_HOPS] == 1
    fresh.feed(good_hops + 1, HOPS)
    first = (good_hops + 1) * hop
    span = (first, HOPS * hop - (broken.separator.latency_frames - hop))
    found, expected = broken.published(*span), fresh.published(*span)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
