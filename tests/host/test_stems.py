"""Any rate, any channels, any length in; stems of the same, in place, piece by piece."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.audio_files import AudioFacts
from host.errors import UserError
from host.renderers import Renderer, cranked, stem_indices
from host.stems import parts_of, separate_channels, stem_pieces
from streaming.separator import SignatureSeparator

STEMS = ["vocals", "drums", "bass", "other"]


def noise(channels, frames, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


def identity(pieces):
    return (piece[None] for piece in pieces)


@pytest.mark.parametrize("frames", [1, 440, 441, 442, 1323])
def test_cranking_removes_the_latency(frames) -> None:
    audio = noise(2, frames)
    stems = np.concatenate(list(cranked(SignatureSeparator, 2, [audio])), axis=-1)
    assert stems.shape == (4, 2, frames)
    np.testing.assert_array_equal(stems[:3], np.stack([0.5 * audio] * 3))


@given(st.integers(1, 24), st.integers(1, 2))
def test_every_channel_is_separated_once_and_in_order(channels, at_a_time) -> None:
    parts = parts_of(channels, at_a_time)
    assert [channel for part in parts for channel in part] == list(range(channels))
    assert all(1 <= len(part) <= at_a_time for part in parts)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 8])
@pytest.mark.parametrize("takes", [1, 2])
def test_channels_come_back_in_their_places_and_progress_reaches_the_end(channels, takes) -> None:
    audio, seen = noise(channels, 100), []

    def checked(pieces):
        for piece in pieces:
            assert piece.shape[0] == takes
            yield piece[None]

    stems = separate_channels(Renderer(("all",), takes, None, checked), audio, 44100, seen.append)
    np.testing.assert_allclose(stems[0], audio, atol=1e-8)
    assert seen == sorted(seen) and seen[-1] == 1.0


@pytest.mark.parametrize(
    ("rate_hz", "frames"), [(8000, 1), (8000, 801), (48000, 4799), (192000, 1), (192000, 3)]
)
def test_other_rates_come_back_to_the_frame(rate_hz, frames) -> None:
    audio = noise(3, frames)
    stems = separate_channels(Renderer(("all",), 2, 44100, identity), audio, rate_hz, lambda done: None)
    assert stems.shape == (1, 3, frames)


def test_a_tone_at_another_rate_stays_what_it_is() -> None:
    tone = np.sin(2 * np.pi * 1000 / 48000 * np.arange(48000), dtype=np.float64).astype(np.float32)[None]
    stems = separate_channels(Renderer(("all",), 1, 44100, identity), tone, 48000, lambda done: None)
    middle = slice(2000, -2000)
    np.testing.assert_allclose(stems[0, 0, middle], tone[0, middle], atol=1e-5)


def test_memory_does_not_grow_with_the_length() -> None:
    def peak(pieces):
        tracemalloc.start()
        audio = (np.ones((2, 4800), np.float32) for _ in range(pieces))
        facts = AudioFacts(48000, 2, 4800 * pieces)
        renderer = Renderer(("all",), 2, 44100, identity)
        assert sum(piece.shape[-1] for piece in stem_pieces(renderer, audio, facts)) == facts.frames
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(400) < 1.5 * peak(20)


def test_wanted_stems_come_in_the_order_asked_for_and_once() -> None:
    assert stem_indices(STEMS, ["bass", "vocals", "bass"], "m") == [2, 0]
    assert stem_indices(STEMS, [], "m") == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"guitar.*vocals, drums, bass, other"):
        stem_indices(STEMS, ["guitar"], "m")
