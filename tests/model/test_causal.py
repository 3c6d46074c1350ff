"""CausalBSRoformer: streaming equals the whole signal, and nothing looks ahead."""

import dataclasses

import pytest
import torch
from torch import Tensor

from model.bands import CAUSAL_BANDS, band_groups
from model.causal import CausalBSRoformer
from model.causal_layers import banded_attention, periodic_rotary, rotate_pairs
from model.causal_stream import CausalStream
from model.checkpoint import load_model
from model.config import WHOLE_SIGNAL, CausalConfig, ConfigError
from model.graph import capture_hop
from model.profiles import PROFILES
from model.stft import CausalSTFT, causal_windows, mid_side
from tests.model import builders
from tests.model.builders import random_model

SMALL = CausalConfig(
    stem_names=("vocals", "drums"),
    n_fft=128,
    hop_frames=21,
    bands=(2,) * 8 + (7,) * 7,
    dim=16,
    depth=2,
    heads=3,
    dim_head=6,
    past_frames=12,
    mask_hidden=8,
    rotary_period=64,
)


AHEAD = dataclasses.replace(SMALL, look_ahead_frames=5)
DIAL = dataclasses.replace(SMALL, look_ahead_frames=2, look_aheads=(0, 2, 6, WHOLE_SIGNAL))
every_framing = pytest.mark.parametrize("config", [SMALL, AHEAD, DIAL], ids=["none", "ahead", "dial"])


def noise(channels: int, frames: int, batch: int = 1) -> Tensor:
    return torch.from_numpy(builders.noise(batch * channels, frames)).view(batch, channels, frames)


def advance_in(model: CausalBSRoformer, spectrum: Tensor, cuts: list[int], capacity: int) -> Tensor:
    state = model.new_state(spectrum.shape[0], capacity)
    pieces = torch.split(spectrum, cuts, dim=2)
    return torch.cat([model.advance(piece, state) for piece in pieces], dim=3)


def check_delayed(model: CausalBSRoformer, actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """What comes out is the whole signal's, later by the look-ahead, and before that nothing."""
    ahead = model.config.look_ahead_frames
    torch.testing.assert_close(
        actual[..., ahead:, :], expected[..., : expected.shape[-2] - ahead, :], rtol=0, atol=tolerance
    )
    assert not actual[..., :ahead, :].abs().any()


def whole_spectra(model: CausalBSRoformer, spectrum: Tensor) -> Tensor:
    with torch.no_grad():
        return spectrum.unsqueeze(1) * model.mask(spectrum)


def cuts_of(total: int, sizes: list[int]) -> list[int]:
    cuts: list[int] = []
    while sum(cuts) < total:
        cuts.append(min(sizes[len(cuts) % len(sizes)], total - sum(cuts)))
    return cuts


@every_framing
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "capacity"), [([1], 1), ([5], 5), ([1, 7, 3], 4), ([64], 64), ([11, 12, 13], 1), ([200], 32)]
)
def test_any_cut_equals_the_whole_signal(
    config: CausalConfig, channels: int, sizes: list[int], capacity: int
) -> None:
    model = random_model(dataclasses.replace(config, channels=channels))
    spectrum = model.stft(noise(channels, 100 * SMALL.hop_frames, batch=2))
    expected = whole_spectra(model, spectrum)
    actual = advance_in(model, spectrum, cuts_of(spectrum.shape[2], sizes), capacity)
    check_delayed(model, actual, expected, 1e-4)
    assert (expected[:, 0] - expected[:, 1]).abs().max() > 0.1


@every_framing
def test_equality_is_exact_in_float64_beyond_the_rotary_period(config: CausalConfig) -> None:
    model = random_model(config).double()
    spectrum = model.stft(noise(2, 200 * SMALL.hop_frames).double())
    assert spectrum.shape[2] > 3 * SMALL.rotary_period
    actual = advance_in(model, spectrum, [1] * spectrum.shape[2], capacity=1)
    check_delayed(model, actual, whole_spectra(model, spectrum), 1e-10)


@every_framing
@pytest.mark.parametrize("run_before", [1, 12, 77])
def test_reset_starts_a_new_signal_in_place_even_after_nan(config: CausalConfig, run_before: int) -> None:
    model = random_model(config)
    spectrum = model.stft(noise(2, 60 * SMALL.hop_frames))
    state = model.new_state(capacity=3)
    addresses = [tensor.data_ptr() for tensor in state.tensors]
    model.advance(spectrum[:, :, :run_before], state)
    model.advance(spectrum[:, :, :2] * torch.nan, state)
    state.reset()
    check_delayed(model, model.advance(spectrum, state), whole_spectra(model, spectrum), 1e-4)
    assert [tensor.data_ptr() for tensor in state.tensors] == addresses


@every_framing
def test_stem_audio_ignores_the_future(config: CausalConfig) -> None:
    """All of it but the look-ahead; of that it takes all."""
    model, hop, ahead = random_model(config).double(), config.hop_frames, config.look_ahead_frames
    audio = noise(2, 50 * hop).double()
    changed = audio.clone()
    changed[..., 30 * hop :] = noise(2, 20 * hop)
    with torch.no_grad():
        before, after = model(audio), model(changed)
    same = (29 - ahead) * hop
    torch.testing.assert_close(before[..., :same], after[..., :same], rtol=0, atol=1e-12)
    assert (before[..., same : same + hop] - after[..., same : same + hop]).abs().max() > 1e-6


def test_time_layers_forget_after_past_frames() -> None:
    model = random_model(SMALL)
    reach = SMALL.depth * (SMALL.past_frames - 1)
    spectrum = model.stft(noise(2, 60 * SMALL.hop_frames))
    changed = spectrum.clone()
    changed[:, :, 5] *= 3
    before, after = whole_spectra(model, spectrum), whole_spectra(model, changed)
    assert torch.equal(before[..., :5, :], after[..., :5, :])
    assert (before[..., 5 + reach, :] - after[..., 5 + reach, :]).abs().max() > 0
    torch.testing.assert_close(before[..., 6 + reach :, :], after[..., 6 + reach :, :], rtol=0, atol=1e-6)


def test_masks_start_as_equal_shares() -> None:
    model = CausalBSRoformer(CausalConfig())
    with torch.no_grad():
        masks = model.mask(model.stft(noise(2, 4410)))
    assert (masks - 0.25).abs().max() < 0.05
    assert torch.allclose(masks.sum(1), torch.ones(()), atol=1e-5)


def test_all_profiles_together_stay_under_sixteen_megabytes() -> None:
    states = [CausalBSRoformer(config).state_dict() for config in PROFILES.values()]
    assert sum(w.numel() * w.element_size() for state in states for w in state.values()) < 16e6
    assert len({(name, w.shape) for state in states for name, w in state.items()}) == len(states[0])


def test_training_reaches_every_parameter() -> None:
    model, audio = CausalBSRoformer(DIAL).train(), noise(2, 30 * SMALL.hop_frames)
    for look_ahead in DIAL.look_aheads:
        model(audio, look_ahead=look_ahead).square().mean().backward()
        row = DIAL.look_aheads.index(look_ahead)
        assert model.look_ahead.grad is not None and model.look_ahead.grad[row].abs().sum() > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("look_ahead", [0, 1, 3, WHOLE_SIGNAL])
def test_banded_attention_equals_a_full_masked_one(look_ahead: int) -> None:
    torch.manual_seed(1)
    q = torch.randn(6, 3, 41, 8, dtype=torch.float64)
    k, v = torch.randn(2, 6, 41, 8, dtype=torch.float64)
    later = torch.arange(41) - torch.arange(41)[:, None]
    allowed = (later <= look_ahead) & (later > look_ahead - 7) | (look_ahead == WHOLE_SIGNAL)
    keys, values = (t.unsqueeze(1).expand_as(q) for t in (k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=allowed)
    torch.testing.assert_close(banded_attention(q, k, v, 7, look_ahead), expected, rtol=0, atol=1e-12)


def test_an_untrained_embedding_changes_nothing() -> None:
    """So that the weights of one profile can start a dial."""
    plain, dial = (CausalBSRoformer(config).eval() for config in (SMALL, DIAL.with_look_ahead(0)))
    dial.load_state_dict(plain.state_dict(), strict=False)
    audio = noise(2, 30 * SMALL.hop_frames)
    assert torch.equal(plain(audio), dial(audio))


def test_a_signal_too_long_to_be_seen_whole_is_refused() -> None:
    model = random_model(DIAL)
    with pytest.raises(ValueError, match="take pieces of 32"):
        model(noise(2, 40 * SMALL.hop_frames), look_ahead=WHOLE_SIGNAL)


def test_rotary_depends_on_distance_only_across_the_period() -> None:
    table = torch.view_as_complex(periodic_rotary(16, 4096))
    torch.manual_seed(2)
    q, k = torch.randn(2, 1, 16)

    def score(position: int, distance: int) -> float:
        turned = [rotate_pairs(x, table[[p % 4096]]) for x, p in ((q, position + distance), (k, position))]
        return float((turned[0] * turned[1]).sum())

    scores = [score(position, 100) for position in (0, 1000, 4050, 4095, 10**12 + 4090)]
    assert max(scores) - min(scores) < 1e-5
    assert abs(score(0, 100) - score(0, 101)) > 1e-3


@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 441), (2048, 294), (128, 21), (64, 32)])
def test_causal_windows_reconstruct_without_gain(n_fft: int, hop: int) -> None:
    analysis, synthesis = causal_windows(n_fft, hop)
    product = analysis[-2 * hop :] * synthesis
    torch.testing.assert_close(product[:hop] + product[hop:], torch.ones(hop, dtype=torch.float64))
    assert analysis.max() <= 1 and synthesis.max() <= 1 + 1e-12


@pytest.mark.parametrize("frames", [1, 64, 65, 128, 440, 441, 442, 5000])
def test_stft_round_trip_has_the_same_length(frames: int) -> None:
    stft, audio = CausalSTFT(2048, 441), noise(2, 5000)[..., :frames]
    torch.testing.assert_close(stft.inverse(stft(audio), frames), audio, rtol=0, atol=1e-6)


def test_mid_and_side_are_their_own_inverse() -> None:
    audio = noise(2, 100)[0]
    mid, side = mid_side(audio, 0)
    torch.testing.assert_close(mid, (audio[0] + audio[1]) / 2**0.5)
    torch.testing.assert_close(side, (audio[0] - audio[1]) / 2**0.5)
    torch.testing.assert_close(mid_side(torch.stack([mid, side], dim=1), 1).T, audio)
    assert torch.equal(mid_side(audio[:1], 0), audio[:1])


def side_for_the_first(model: CausalBSRoformer) -> CausalBSRoformer:
    """Masks that give the first stem all of the side and the second one all of the mid."""
    for output in model.masks.outputs:
        output.weight.data.zero_()
        bias = output.bias.data.view(-1, 2, 2, output.bias.shape[-1] // 2)  # bands, stems, mid and side, bins
        bias[:, 0, 0], bias[:, 0, 1], bias[:, 1, 0], bias[:, 1, 1] = -20, 20, 20, -20
    return model


@pytest.mark.parametrize("way", ["whole signal", "stream", "captured"])
def test_masks_are_those_of_mid_and_side(way: str) -> None:
    model, hop = side_for_the_first(random_model(SMALL)), SMALL.hop_frames
    audio = noise(2, 40 * hop)[0]
    mid, side = (audio[0] + audio[1]) / 2, (audio[0] - audio[1]) / 2
    with torch.inference_mode():
        if way == "whole signal":
            stems = model(audio[None])[0]
        else:
            stream = CausalStream(model)
            process = capture_hop(stream) if way == "captured" else stream.process
            stems = torch.cat([process(part) for part in audio.split(hop, dim=1)], dim=-1)[..., hop:]
    expected = torch.stack([torch.stack([side, -side]), torch.stack([mid, mid])])
    torch.testing.assert_close(stems, expected[..., : stems.shape[-1]], rtol=0, atol=1e-5)


def test_band_groups_cover_every_bin_once() -> None:
    groups = band_groups(CAUSAL_BANDS)
    assert [g.first_bin for g in groups[1:]] == [g.last_bin for g in groups[:-1]]
    assert [g.first_band for g in groups[1:]] == [g.last_band for g in groups[:-1]]
    assert groups[-1].last_bin == 1025 and groups[-1].last_band == len(CAUSAL_BANDS) == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": (3, 4)}, "bands cover 7 bins"),
        ({"hop_frames": 1025}, "synthesis window"),
        ({"past_frames": 4096}, "rotary period"),
        ({"stem_names": ("vocals", "vocals")}, "different names"),
        ({"channels": 3}, "channels must be 1 or 2"),
        ({"look_ahead_frames": 65}, "a look-ahead must be 0 to 64"),
        ({"look_ahead_frames": -2}, "a look-ahead must be 0 to 64"),
        ({"look_aheads": (0, 2.5)}, "a look-ahead must be 0 to 64"),
        ({"look_aheads": (0, 2, 2)}, "look_aheads must be different"),
        ({"look_aheads": (2, 4)}, "look_aheads must hold look_ahead_frames 0"),
    ],
)
def test_impossible_configurations_are_refused_in_one_line(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        dataclasses.replace(CausalConfig(), **change)
    assert "\n" not in str(caught.value)


def mono(profile: str) -> CausalConfig:
    return dataclasses.replace(builders.small(profile), channels=1, stem_names=("vocals", "drums"))


@pytest.mark.parametrize(("config", "seconds"), [(mono("studio"), 10), (CausalConfig(), 3)])
def test_many_seconds_hop_by_hop(config: CausalConfig, seconds: int) -> None:
    check_hop_by_hop(random_model(config), seconds)


@pytest.mark.parametrize("look_ahead", DIAL.look_aheads)
@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 42), (1, 21), (400, 463), (1500, 1501), (1999, 2000)])
def test_a_part_is_what_the_whole_has_there(look_ahead: int, start: int, end: int) -> None:
    model, audio = random_model(dataclasses.replace(DIAL, past_frames=20, rotary_period=256)), noise(2, 2000)
    with torch.no_grad():
        whole, part = model(audio, look_ahead), model.part(audio, start, end, look_ahead)
    torch.testing.assert_close(part, whole[..., start:end], rtol=0, atol=2e-6)
    assert whole.abs().max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_ten_minutes_hop_by_hop(profile: str) -> None:
    check_hop_by_hop(random_model(mono(profile)), seconds=600)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_ten_minutes_of_the_model_that_ships(profile: str) -> None:
    """At its full size, in stereo: 11 GB for the whole signal at once, 17 for `stage`."""
    model, _ = load_model(profile)
    assert isinstance(model, CausalBSRoformer)
    check_hop_by_hop(model, seconds=600)


def check_hop_by_hop(model: CausalBSRoformer, seconds: int) -> None:
    """Every hop of the captured stream is the whole signal's, later by the declared latency."""
    config = model.config
    audio = noise(config.channels, seconds * 44100)[0]
    with torch.inference_mode():
        expected = model(audio.unsqueeze(0))[0]
        process = capture_hop(CausalStream(model))
        start = config.hop_frames - config.latency_frames
        for hop in torch.split(audio, config.hop_frames, dim=-1)[:-1]:
            stems = process(hop)
            if start >= 0:
                error = (stems - expected[..., start : start + config.hop_frames]).abs().max()
                assert error < 1e-4, f"frame {start}: {error}"
            start += config.hop_frames
    assert (expected[0] - expected[1]).abs().max() > 0.01
