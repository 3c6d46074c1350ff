"""Chunked separation equals the reference recipe, restated here plainly over the whole signal at once."""

from __future__ import annotations

import copy
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.chunks import Recipe, RecipeError, forward_of, msst_recipe, paper_recipe, separate_chunks
from model.config import RoformerConfig
from model.pieces import augmented, rechunked
from model.roformer import build
from tests.model.builders import noise

CHUNK = 8192
CONFIG = RoformerConfig(dim=16, depth=1, heads=2, dim_head=8, stem_names=("vocals", "other"), mask_depth=1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return build(CONFIG).eval()


def reference(forward, mix, chunk, overlap):
    """`demix` of Music-Source-Separation-Training in its own order: pad, walk, weigh, add, divide, crop."""
    step, fade = chunk // overlap, chunk // 10
    border, length = chunk - step, mix.shape[1]
    padded = length > 2 * border and border > 0
    if padded:
        mix = torch.nn.functional.pad(mix, (border, border), mode="reflect")
    result, counter, start = None, torch.zeros(mix.shape[1]), 0
    while start < mix.shape[1]:
        part = mix[:, start : start + chunk]
        n = part.shape[1]
        mode = "reflect" if n > chunk // 2 else "constant"
        stems = forward(torch.nn.functional.pad(part, (0, chunk - n), mode=mode)[None])[0]
        weight = torch.ones(chunk)
        weight[:fade], weight[chunk - fade :] = torch.linspace(0, 1, fade), torch.linspace(1, 0, fade)
        if start == 0:
            weight[:fade] = 1
        elif start + step >= mix.shape[1]:
            weight[chunk - fade :] = 1
        result = torch.zeros(*stems.shape[:2], mix.shape[1]) if result is None else result
        result[..., start : start + n] += stems[..., :n] * weight[:n]
        counter[start : start + n] += weight[:n]
        start += step
    out = torch.nan_to_num(result / counter, nan=0.0)
    return (out[..., border:-border] if padded else out).numpy()


def odd(audio):
    """A cheap stand-in for a network that knows where in a chunk a frame lies, and which channel it is."""
    place = torch.linspace(0.5, 1.5, audio.shape[-1]) * torch.tensor([[1.0], [0.7]])
    return torch.stack([audio * place, torch.tanh(audio.flip(1)) + 0.1], dim=1)


def odd_arrays(audio):
    return odd(torch.from_numpy(audio)).numpy()


def whole(pieces):
    return np.concatenate(list(pieces), axis=-1)


def run(forward, recipe, audio, piece_frames=1000, batch=1):
    return whole(separate_chunks(forward, recipe, rechunked([audio], piece_frames), batch))


@pytest.mark.parametrize(
    "frames", [1, 64, 65, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 1, 12288, 12289, 12290, 30_000]
)
@pytest.mark.parametrize("overlap", [1, 2, 4])
def test_a_network_in_chunks_equals_the_reference(network, frames, overlap) -> None:
    audio = noise(2, frames) if frames > 10 else np.full((2, frames), 0.3, np.float32)
    with torch.inference_mode():
        expected = reference(network, torch.from_numpy(audio), CHUNK, overlap)
    actual = run(forward_of(network, "fp32"), msst_recipe(CHUNK, overlap), audio)
    assert actual.shape == (2, 2, frames) and actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * max(1e-3, np.abs(expected).max()))


@given(st.integers(1, 260), st.integers(10, 64), st.integers(1, 6), st.integers(1, 70), st.integers(1, 3))
def test_every_length_equals_the_reference_to_the_bit(frames, chunk, overlap, piece_frames, batch) -> None:
    audio = noise(2, max(frames, 20))[:, :frames]
    actual = run(odd_arrays, msst_recipe(chunk, overlap), audio, piece_frames, batch)
    np.testing.assert_array_equal(actual, reference(odd, torch.from_numpy(audio), chunk, overlap))


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 40, 41, 107])
def test_the_papers_recipe_averages_what_covers_a_frame(frames) -> None:
    audio, recipe = noise(2, 200)[:, :frames], Recipe(40, 20)
    total, count = np.zeros((2, 2, frames + 40)), np.zeros(frames + 40)
    for start in range(0, frames, 20):
        part = audio[:, start : start + 40]
        mode = "reflect" if part.shape[1] > 20 else "constant"
        stems = odd_arrays(np.pad(part, ((0, 0), (0, 40 - part.shape[1])), mode)[None])[0]
        total[..., start : start + 40] += stems
        count[start : start + 40] += 1
    np.testing.assert_allclose(
        run(odd_arrays, recipe, audio), total[..., :frames] / count[:frames], atol=1e-6
    )


def test_the_papers_recipe_is_8_seconds_every_4() -> None:
    assert paper_recipe(44100) == Recipe(352_800, 176_400, 0, 0)


def test_a_batch_changes_nothing_but_rounding(network) -> None:
    audio, recipe = noise(2, 40_000), msst_recipe(CHUNK, 2)
    single = run(forward_of(network, "fp32"), recipe, audio)
    np.testing.assert_allclose(run(forward_of(network, "fp32"), recipe, audio, batch=3), single, atol=1e-6)


def test_augmentation_is_the_mean_of_three_whole_runs() -> None:
    audio, recipe = noise(2, 1001), msst_recipe(100, 4)

    def separate(pieces):
        return separate_chunks(odd_arrays, recipe, pieces)

    plain = run(odd_arrays, recipe, audio)
    swapped = run(odd_arrays, recipe, audio[::-1])[:, ::-1]
    turned = -run(odd_arrays, recipe, -audio)
    actual = whole(augmented(separate)(rechunked([audio], 130)))
    np.testing.assert_allclose(actual, (plain + swapped + turned) / 3, rtol=0, atol=1e-6)
    assert np.abs(actual - plain).max() > 1e-3


@pytest.mark.parametrize(("precision", "most"), [("bf16", 0.1), ("fp16", 0.02)])
def test_lower_precision_spares_the_stft(network, monkeypatch, precision, most) -> None:
    """The spectrum and the mask stay complex64 while the result shows that something inside is lower."""
    network = copy.deepcopy(network)
    seen, mask = [], network.mask

    def watched(spectrum, asked):
        seen.extend([spectrum.dtype, (found := mask(spectrum, asked)).dtype])
        return found

    monkeypatch.setattr(network, "mask", watched)
    audio = noise(1, CHUNK)[None].repeat(2, axis=1)
    exact, lower = (forward_of(network, name)(audio) for name in ("fp32", precision))
    error = np.sqrt(np.mean((exact - lower) ** 2) / np.mean(exact**2))
    assert set(seen) == {torch.complex64} and len(seen) == 4
    assert lower.dtype == np.float32
    assert 1e-6 < error < most


def test_what_is_no_number_becomes_silence() -> None:
    def broken(audio):
        stems = odd_arrays(audio)
        stems[:, 0, 0, 3] = np.nan
        return stems

    stems = run(broken, Recipe(50, 50), noise(2, 100))
    assert stems[0, 0, 3] == stems[0, 0, 53] == 0
    assert np.isfinite(stems).all() and stems[0, 0, 4] != 0


def test_memory_does_not_grow_with_the_length() -> None:
    size = 20_000  # large beside what Python itself keeps

    def peak(chunks):
        tracemalloc.start()
        pieces = (np.ones((2, size), np.float32) for _ in range(chunks))
        frames = sum(piece.shape[-1] for piece in separate_chunks(odd_arrays, msst_recipe(size, 4), pieces))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert frames == size * chunks
        return most

    assert peak(100) < 1.2 * peak(10)


@pytest.mark.parametrize("overlap", [0, -1, 101])
def test_an_impossible_overlap_is_refused(overlap) -> None:
    with pytest.raises(RecipeError, match=f"overlap of {overlap}"):
        msst_recipe(100, overlap)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_rechunking_keeps_every_frame(lengths, frames) -> None:
    total = sum(lengths)
    audio = np.arange(2 * total, dtype=np.float32).reshape(2, total)
    pieces = list(rechunked(np.split(audio, np.cumsum(lengths), axis=1), frames))
    assert all(piece.shape[1] == frames for piece in pieces[:-1])
    assert all(0 < piece.shape[1] <= frames for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([audio[:, :0], *pieces], axis=1), audio)
