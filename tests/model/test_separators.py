"""CausalSeparator and offline separation: the same samples as the whole-signal forward, where declared."""

import dataclasses
import gc
import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config import WHOLE_SIGNAL, CausalConfig, ConfigError
from model.offline import CHUNK_HOPS, separate
from model.profiles import PROFILES
from model.separators import CausalSeparator
from tests.model.builders import noise, random_model, small

LATENCIES = {"stage": 588, "live": 882, "studio": 4410}


def warm(config: CausalConfig) -> CausalSeparator:
    separator = CausalSeparator(random_model(config))
    separator.warm_up()
    return separator


@pytest.fixture(params=PROFILES)
def config(request: pytest.FixtureRequest) -> CausalConfig:
    return small(request.param)


@pytest.fixture
def separator(config: CausalConfig):
    separator = warm(config)
    yield separator
    separator.close()


def run(separator: CausalSeparator, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hop by hop, as the engine does; every hop's output placed by its absolute frame."""
    hop, late = separator.hop_frames, separator.latency_frames - separator.hop_frames
    heard = crank(separator, audio)
    return heard[..., late : audio.shape[1] // hop * hop]


def crank(separator: CausalSeparator, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """What every call gave, one after the other."""
    hop = separator.hop_frames
    out = np.full((len(separator.stem_names), audio.shape[0], hop), np.nan, dtype=np.float32)
    heard = []
    for end in range(hop, audio.shape[1] + 1, hop):
        separator.separate(audio[:, end - hop : end], out)
        heard.append(out.copy())
    return np.concatenate(heard, axis=2)


def whole(config: CausalConfig, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return random_model(config)(torch.from_numpy(audio).unsqueeze(0))[0].numpy()


@pytest.mark.parametrize("profile", PROFILES)
def test_declared_framing(profile: str) -> None:
    separator = CausalSeparator(random_model(small(profile)))
    assert separator.latency_frames == LATENCIES[profile] <= 8192
    assert separator.hop_frames == separator.window_frames == PROFILES[profile].hop_frames
    assert separator.hop_frames % 147 == 0, "whole at every usual rate"
    assert separator.sample_rate_hz == 44100
    assert separator.stem_names == ("vocals", "drums", "bass", "other")


def test_hops_equal_the_whole_signal_at_the_declared_frames(separator: CausalSeparator, config) -> None:
    audio = noise(2, 300 * config.hop_frames)
    stems = run(separator, audio)
    np.testing.assert_allclose(stems, whole(config, audio)[..., : stems.shape[-1]], rtol=0, atol=1e-4)
    assert np.abs(stems[0] - stems[1]).max() > 0.01


def test_a_stream_begins_with_silence_as_long_as_its_look_ahead(separator: CausalSeparator, config) -> None:
    """Then comes the hop before the signal, then the signal: its first sample at the declared latency."""
    hop, silent = config.hop_frames, config.look_ahead_frames * config.hop_frames
    for frames in (hop - 1, hop, hop + 1):
        audio = np.zeros((2, 40 * hop), dtype=np.float32)
        audio[:, :frames] = noise(2, frames) + 0.1
        heard = crank(separator, audio)
        assert not heard[..., :silent].any()
        assert heard[..., silent : silent + hop].any()
        late = config.latency_frames - hop
        np.testing.assert_allclose(
            heard[..., late:], whole(config, audio)[..., : heard.shape[-1] - late], rtol=0, atol=1e-4
        )
        separator.reset()


@pytest.mark.parametrize("hops_before", [1, 7, 8, 9, 40])
def test_a_hop_that_was_not_finite_leaves_nothing_behind_after_a_reset(
    separator: CausalSeparator, config, hops_before: int
) -> None:
    audio = noise(2, 60 * config.hop_frames)
    invalid = np.full((2, config.hop_frames), np.nan, dtype=np.float32)
    expected = run(separator, audio)
    crank(separator, np.concatenate([audio[:, : hops_before * config.hop_frames], invalid], axis=1))
    separator.reset()
    np.testing.assert_allclose(run(separator, audio), expected, rtol=0, atol=1e-4)


def test_an_impulse_comes_out_where_declared(separator: CausalSeparator) -> None:
    frame = 20 * separator.hop_frames + 100
    audio = np.zeros((2, 2 * frame), dtype=np.float32)
    audio[:, frame] = 1
    assert np.abs(run(separator, audio).sum(axis=0)[0]).argmax() == frame


@pytest.mark.parametrize("hops_before", [1, 2, 50])
def test_reset_forgets_the_past(separator: CausalSeparator, hops_before: int) -> None:
    audio = noise(2, 30 * separator.hop_frames)
    first = run(separator, audio)
    crank(separator, noise(2, hops_before * separator.hop_frames, seed=1))
    separator.reset()
    np.testing.assert_allclose(run(separator, audio), first, rtol=0, atol=1e-6)


def test_non_finite_input_counts_as_silence_and_input_is_clamped(separator: CausalSeparator) -> None:
    dirty, clean = noise(2, 30 * separator.hop_frames), noise(2, 30 * separator.hop_frames)
    for frame, value, meant in ((500, np.nan, 0), (900, np.inf, 0), (901, -np.inf, 0), (2000, 3.4e38, 8)):
        dirty[:, frame], clean[:, frame] = value, meant
    expected = run(separator, clean)
    separator.reset()
    actual = run(separator, dirty)
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_silence_in_silence_out_at_once_after_noise(separator: CausalSeparator) -> None:
    hop, late = separator.hop_frames, separator.latency_frames // separator.hop_frames
    crank(separator, noise(2, 30 * hop))
    crank(separator, np.zeros((2, (5 + late) * hop), dtype=np.float32))
    assert np.abs(crank(separator, np.zeros((2, 4 * hop), dtype=np.float32))).max() < 1e-6


def test_wrong_shapes_are_refused(separator: CausalSeparator) -> None:
    hop = separator.hop_frames
    out = np.empty((4, 2, hop), dtype=np.float32)
    with pytest.raises(ValueError):
        separator.separate(np.zeros((2, hop + 1), dtype=np.float32), out)
    with pytest.raises(ValueError):
        separator.separate(np.zeros((2, hop), dtype=np.float32), out[:3])


def test_warm_up_freezes_and_close_thaws() -> None:
    separator = CausalSeparator(random_model())
    separator.warm_up()
    assert gc.get_freeze_count() > 1000 and torch.get_num_threads() == 1
    separator.close()
    assert gc.get_freeze_count() == 0


def test_nothing_grows_after_warm_up(separator: CausalSeparator) -> None:
    """What grows does so every time; what other threads of the tests take meanwhile comes once."""
    audio, out = noise(2, separator.hop_frames), np.empty((4, 2, separator.hop_frames), dtype=np.float32)

    def grown() -> int:
        before = tracemalloc.take_snapshot()
        for _ in range(200):
            separator.separate(audio, out)
        return sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, "filename"))

    tracemalloc.start()
    least = min(grown() for _ in range(3))
    tracemalloc.stop()
    assert least < 20_000


HOPS = CHUNK_HOPS - 1


@pytest.mark.parametrize("frames", [0, 1, 64, 65, 128, 440, 441, 442, HOPS * 294, HOPS * 441, 60_000])
def test_offline_equals_the_whole_signal_and_keeps_the_length(config: CausalConfig, frames: int) -> None:
    audio = noise(2, 60_000)[:, :frames]
    stems = separate(random_model(config), audio)
    assert stems.shape == (4, 2, frames) and stems.dtype == np.float32
    np.testing.assert_allclose(stems, whole(config, audio) if frames else stems, rtol=0, atol=1e-4)


def test_offline_equals_the_live_separator(separator: CausalSeparator, config: CausalConfig) -> None:
    audio = noise(2, (2 * CHUNK_HOPS + 3) * config.hop_frames)
    live = run(separator, audio)
    stems = separate(random_model(config), audio)
    np.testing.assert_allclose(stems[..., : live.shape[-1]], live, rtol=0, atol=1e-4)


def test_offline_reports_progress_and_refuses_other_channel_counts() -> None:
    seen: list[float] = []
    separate(random_model(), noise(2, 2 * CHUNK_HOPS * 441), seen.append)
    assert seen == sorted(seen) and seen[-1] == 1 and len(seen) == 3
    with pytest.raises(ValueError, match=r"the model takes \[2, frames\]"):
        separate(random_model(), noise(1, 1000))


DIAL = dataclasses.replace(small("live"), look_aheads=(0, 8, WHOLE_SIGNAL))


def test_one_network_serves_every_point_of_its_dial() -> None:
    """Each as its configuration says, live and offline, from the same weights."""
    audio, heard = noise(2, 60 * 441), []
    for ahead in (0, 8):
        separator = warm(DIAL.with_look_ahead(ahead))
        heard.append(run(separator, audio)[..., : 50 * 441])
        separator.close()
        with torch.no_grad():
            told = random_model(DIAL)(torch.from_numpy(audio)[None], look_ahead=ahead)[0].numpy()
        np.testing.assert_allclose(heard[-1], told[..., : 50 * 441], rtol=0, atol=1e-4)
    assert np.abs(heard[0] - heard[1]).max() > 1e-3


def test_a_network_that_sees_everything_is_for_whole_files() -> None:
    model = random_model(DIAL.with_look_ahead(WHOLE_SIGNAL))
    for streaming in (CausalSeparator, type(model).new_state):
        with pytest.raises(ConfigError, match="whole") as caught:
            streaming(model)
        assert "\n" not in str(caught.value)
    piece = 2 * DIAL.past_frames * 441
    audio = noise(2, 3 * piece)
    assert separate(model, audio).shape == (4, 2, 3 * piece)
    short = np.pad(audio[:, :4000], ((0, 0), (0, piece - 4000)))
    np.testing.assert_allclose(
        separate(model, short[:, :4000]), whole(model.config, short)[..., :4000], rtol=0, atol=1e-5
    )
