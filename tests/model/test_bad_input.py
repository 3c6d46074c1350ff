"""What no music is, through every profile: always finite, and nothing that slows a processor down."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.profiles import PROFILES
from model.separators import CausalSeparator
from tests.model.builders import noise, random_model, small

Audio = NDArray[np.float32]
HOPS = 30
SMALLEST_NORMAL_BITS = 0x00800000


def square(frames: int) -> Audio:
    return np.where(np.arange(frames) % 100 < 50, 1, -1).astype(np.float32)


def fading_away(frames: int) -> Audio:
    """From full scale through all denormal numbers to 0."""
    return square(frames) * np.logspace(0, -46, frames, dtype=np.float32)


SIGNALS = {
    "silence": np.zeros,
    "DC": np.ones,
    "a full-scale square wave": square,
    "a square wave far beyond": lambda frames: 3e38 * square(frames),
    "alternating infinities": lambda frames: np.inf * square(frames),
    "a fade through denormal numbers": fading_away,
    "denormal noise": lambda frames: 1e-41 * square(frames),
}


@pytest.fixture(params=PROFILES)
def separator(request: pytest.FixtureRequest):
    """Warmed up for every test: that is what makes its thread flush denormals."""
    separator = CausalSeparator(random_model(small(request.param)))
    separator.warm_up()
    yield separator
    separator.close()


def check_harmless(separator: CausalSeparator, audio: Audio) -> Audio:
    """Play [channels, frames]; what was heard. The bits are looked at: comparisons take denormals for 0."""
    hop = separator.hop_frames
    heard = np.full(
        (len(separator.stem_names), audio.shape[0], audio.shape[1] // hop * hop), np.nan, np.float32
    )
    for end in range(hop, audio.shape[1] + 1, hop):
        separator.separate(audio[:, end - hop : end], heard[..., end - hop : end])
        for tensor in separator._stream.carried():
            if tensor.is_complex() or tensor.is_floating_point():
                assert_harmless(torch.view_as_real(tensor) if tensor.is_complex() else tensor)
    assert_harmless(torch.from_numpy(heard))
    return heard


def assert_harmless(values: torch.Tensor) -> None:
    assert values.isfinite().all()
    bits = values.numpy().view(np.uint32) & 0x7FFFFFFF
    assert not ((bits > 0) & (bits < SMALLEST_NORMAL_BITS)).any(), "denormal numbers"


@pytest.mark.parametrize("signal", SIGNALS)
def test_everything_stays_finite_and_normal(separator: CausalSeparator, signal: str) -> None:
    """At the start of a signal, out of music, and out into silence."""
    frames = HOPS * separator.hop_frames
    bad = np.stack([SIGNALS[signal](frames), -SIGNALS[signal](frames)]).astype(np.float32)
    check_harmless(separator, np.concatenate([bad, noise(2, frames), bad, np.zeros_like(bad)], axis=1))


def test_after_anything_silence_is_silent(separator: CausalSeparator) -> None:
    frames = HOPS * separator.hop_frames
    check_harmless(separator, np.tile(square(frames), (2, 1)))
    assert not check_harmless(separator, np.zeros((2, frames), np.float32))[..., frames // 2 :].any()


@pytest.mark.parametrize("profile", PROFILES)
def test_mono_has_profiles_too(profile: str) -> None:
    separator = CausalSeparator(random_model(dataclasses.replace(small(profile), channels=1)))
    separator.warm_up()
    frames = HOPS * separator.hop_frames
    assert check_harmless(separator, noise(1, frames)).any()
    check_harmless(separator, square(frames)[None])
    separator.close()


@pytest.mark.slow
def test_half_an_hour_of_zeros(separator: CausalSeparator) -> None:
    hop, out = separator.hop_frames, np.empty((4, 2, separator.hop_frames), np.float32)
    check_harmless(separator, noise(2, HOPS * hop))
    nothing = np.zeros((2, hop), np.float32)
    for _ in range(30 * 60 * 44100 // hop):
        separator.separate(nothing, out)
    assert not check_harmless(separator, np.zeros((2, HOPS * hop), np.float32)).any()
