"""CausalSeparator and offline separation: the same samples as the whole-signal forward, where declared."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.offline import CHUNK_HOPS, separate
from model.separators import CausalSeparator
from tests.model.builders import noise, random_model

HOP, LATENCY = 441, 882


@pytest.fixture
def separator():
    separator = CausalSeparator(random_model())
    separator.warm_up()
    yield separator
    separator.close()


def run(separator: CausalSeparator, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hop by hop, as the engine does; every hop's output placed by its absolute frame."""
    hops = audio.shape[1] // HOP
    stems = np.full((len(separator.stem_names), audio.shape[0], audio.shape[1]), np.nan, dtype=np.float32)
    out = np.empty((len(separator.stem_names), audio.shape[0], HOP), dtype=np.float32)
    for end in range(HOP, hops * HOP + 1, HOP):
        separator.separate(audio[:, end - HOP : end], out)
        start = end - separator.latency_frames
        if start >= 0:
            stems[..., start : start + HOP] = out
    return stems[..., : (hops - 1) * HOP]


def whole(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return random_model()(torch.from_numpy(audio).unsqueeze(0))[0].numpy()


def test_declared_framing(separator: CausalSeparator) -> None:
    assert (separator.hop_frames, separator.window_frames, separator.latency_frames) == (HOP, HOP, LATENCY)
    assert separator.sample_rate_hz == 44100
    assert separator.stem_names == ("vocals", "drums", "bass", "other")


def test_hops_equal_the_whole_signal_at_the_declared_frames(separator: CausalSeparator) -> None:
    audio = noise(2, 300 * HOP)
    stems = run(separator, audio)
    np.testing.assert_allclose(stems, whole(audio)[..., : stems.shape[-1]], rtol=0, atol=1e-4)
    assert np.abs(stems[0] - stems[1]).max() > 0.01


def test_an_impulse_comes_out_where_declared(separator: CausalSeparator) -> None:
    audio = np.zeros((2, 40 * HOP), dtype=np.float32)
    audio[:, 20 * HOP + 100] = 1
    total = run(separator, audio).sum(axis=0)
    assert np.unravel_index(np.abs(total[0]).argmax(), total[0].shape) == (20 * HOP + 100,)


@pytest.mark.parametrize("hops_before", [1, 2, 50])
def test_reset_forgets_the_past(separator: CausalSeparator, hops_before: int) -> None:
    audio = noise(2, 30 * HOP)
    first = run(separator, audio)
    run(separator, noise(2, hops_before * HOP, seed=1))
    separator.reset()
    np.testing.assert_allclose(run(separator, audio), first, rtol=0, atol=1e-6)


def test_non_finite_input_counts_as_silence_and_input_is_clamped(separator: CausalSeparator) -> None:
    dirty, clean = noise(2, 30 * HOP), noise(2, 30 * HOP)
    for frame, value, meant in ((500, np.nan, 0), (900, np.inf, 0), (901, -np.inf, 0), (2000, 3.4e38, 8)):
        dirty[:, frame], clean[:, frame] = value, meant
    expected = run(separator, clean)
    separator.reset()
    actual = run(separator, dirty)
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_silence_in_silence_out_at_once_after_noise(separator: CausalSeparator) -> None:
    run(separator, noise(2, 30 * HOP))
    run(separator, np.zeros((2, 6 * HOP), dtype=np.float32))
    assert np.abs(run(separator, np.zeros((2, 4 * HOP), dtype=np.float32))).max() < 1e-6


def test_wrong_shapes_are_refused(separator: CausalSeparator) -> None:
    out = np.empty((4, 2, HOP), dtype=np.float32)
    with pytest.raises(ValueError):
        separator.separate(np.zeros((2, HOP + 1), dtype=np.float32), out)
    with pytest.raises(ValueError):
        separator.separate(np.zeros((2, HOP), dtype=np.float32), out[:3])


def test_warm_up_freezes_and_close_thaws() -> None:
    separator = CausalSeparator(random_model())
    separator.warm_up()
    assert gc.get_freeze_count() > 1000 and torch.get_num_threads() == 1
    separator.close()
    assert gc.get_freeze_count() == 0


def test_nothing_grows_after_warm_up(separator: CausalSeparator) -> None:
    audio, out = noise(2, HOP), np.empty((4, 2, HOP), dtype=np.float32)
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(200):
        separator.separate(audio, out)
    grown = sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, "filename"))
    tracemalloc.stop()
    assert grown < 20_000


@pytest.mark.parametrize("frames", [0, 1, 64, 65, 128, HOP - 1, HOP, HOP + 1, (CHUNK_HOPS - 1) * HOP, 60_000])
def test_offline_equals_the_whole_signal_and_keeps_the_length(frames: int) -> None:
    audio = noise(2, 60_000)[:, :frames]
    stems = separate(random_model(), audio)
    assert stems.shape == (4, 2, frames) and stems.dtype == np.float32
    np.testing.assert_allclose(stems, whole(audio) if frames else stems, rtol=0, atol=1e-4)


def test_offline_equals_the_live_separator(separator: CausalSeparator) -> None:
    audio = noise(2, (2 * CHUNK_HOPS + 3) * HOP)
    live = run(separator, audio)
    np.testing.assert_allclose(
        separate(random_model(), audio)[..., : live.shape[-1]], live, rtol=0, atol=1e-4
    )


def test_offline_reports_progress_and_refuses_other_channel_counts() -> None:
    seen: list[float] = []
    separate(random_model(), noise(2, 2 * CHUNK_HOPS * HOP), seen.append)
    assert seen == sorted(seen) and seen[-1] == 1 and len(seen) == 3
    with pytest.raises(ValueError, match=r"the model takes \[2, frames\]"):
        separate(random_model(), noise(1, 1000))
