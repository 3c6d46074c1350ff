"""Options that the oracle package lacks, against the formulas written out; precision; configurations."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from model.bands import BS_BANDS, mel_band_bins
from model.config import ConfigError, RoformerConfig
from model.roformer import Roformer, build
from tests.model.roformer_formulas import mask
from tests.model.roformer_oracle import noise

TINY = RoformerConfig(
    12, 3, heads=2, dim_head=4, bands=(2, 2, 5, 8), mel_bands=4, n_fft=32, win_frames=32, stft_hop_frames=8
)
OPTIONS = [
    {},
    {"linear_depth": 1},
    {"linear_depth": 2, "time_depth": 2, "freq_depth": 2},
    {"skip_connection": True},
    {"skip_connection": True, "linear_depth": 1, "stem_names": ("a", "b"), "channels": 1},
    {"expansion": 3, "mask_depth": 3},
]


def random_model(config: RoformerConfig) -> Roformer:
    torch.manual_seed(2)
    model = build(config).double().eval()
    for name, parameter in model.named_parameters():
        if not name.endswith("freqs"):
            parameter.data.add_(0.2 * torch.randn_like(parameter.data))
    return model


@pytest.mark.parametrize("architecture", ["bs", "mel"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_mask_equals_the_formulas(architecture: str, options: dict) -> None:
    config = dataclasses.replace(TINY, architecture=architecture, **options)
    model = random_model(config)
    with torch.no_grad():
        spectrum = model.stft(noise(config, torch.float64))
        actual = model.mask(spectrum)
        expected = torch.stack([mask(one, model.state_dict(), config) for one in spectrum])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("architecture", ["bs", "mel"])
@pytest.mark.parametrize("option", ["skip_connection", "zero_dc"])
def test_options_that_no_key_shows_change_the_result(architecture: str, option: str) -> None:
    config = dataclasses.replace(TINY, architecture=architecture)
    plain, changed = random_model(config), build(dataclasses.replace(config, **{option: True})).double()
    changed.load_state_dict(plain.state_dict(), strict=True)
    audio = noise(config, torch.float64)
    with torch.no_grad():
        assert (plain(audio) - changed(audio)).abs().max() > 1e-4


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_linear_attention_has_the_published_keys(architecture: str) -> None:
    keys = build(dataclasses.replace(TINY, architecture=architecture, linear_depth=1)).state_dict().keys()
    assert {key for key in keys if key.startswith("layers.0.0.")} - {"layers.0.0.norm.gamma"} == {
        f"layers.0.0.layers.0.{part}"
        for part in (
            "0.norm.gamma",
            "0.to_qkv.0.weight",
            "0.temperature",
            "0.to_out.1.weight",
            "1.net.0.gamma",
            "1.net.1.weight",
            "1.net.1.bias",
            "1.net.4.weight",
            "1.net.4.bias",
        )
    }
    assert ("layers.0.0.norm.gamma" in keys) == (architecture == "mel")
    assert "layers.0.2.layers.0.0.rotary_embed.freqs" in keys


def test_zero_dc_silences_only_bin_zero() -> None:
    ours = random_model(TINY)
    silent_dc = build(dataclasses.replace(TINY, zero_dc=True)).double()
    silent_dc.load_state_dict(ours.state_dict())
    audio = noise(TINY, torch.float64)
    with torch.no_grad():
        stems = ours.stft(audio).unsqueeze(1) * ours.mask(ours.stft(audio))
        stems[..., 0, :] = 0
        expected = ours._stft.inverse(stems, audio.shape[-1])
        torch.testing.assert_close(silent_dc(audio), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_half_precision_weights_keep_a_float32_stft(architecture: str) -> None:
    config = dataclasses.replace(TINY, architecture=architecture)
    exact, model = random_model(config), random_model(config).to(torch.bfloat16)
    audio = noise(config, torch.float32)
    with torch.no_grad():
        spectrum = model.stft(audio)
        assert spectrum.dtype == model.mask(spectrum).dtype == torch.complex64
        torch.testing.assert_close(spectrum, exact.float().stft(audio), rtol=0, atol=0)
        difference = (model.mask(spectrum) - exact.mask(spectrum)).abs().square().mean().sqrt()
        assert difference < 0.1 * exact.mask(spectrum).abs().square().mean().sqrt()


def test_half_precision_weights_keep_rotary_angles() -> None:
    exact, lowered = (build(TINY).layers[0][0].layers[0][0].rotary_embed for _ in range(2))
    lowered.to(torch.bfloat16)
    assert torch.equal(lowered(1101, torch.bfloat16), exact(1101, torch.float32))


@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_silence_stays_silence_and_odd_lengths_are_kept(architecture: str) -> None:
    model = random_model(dataclasses.replace(TINY, architecture=architecture, stem_names=("a", "b"))).float()
    with torch.no_grad():
        assert torch.equal(model(torch.zeros(1, 2, 101)), torch.zeros(1, 2, 2, 101))


def test_published_band_tables_cover_the_stft() -> None:
    assert len(BS_BANDS) == 62 and sum(BS_BANDS) == 1025
    mel = RoformerConfig(384, 6, architecture="mel").band_bins
    assert len(mel) == 60 and sum(map(len, mel)) == 1979
    assert set(itertools.chain.from_iterable(mel)) == set(range(1025))


@pytest.mark.parametrize(
    ("bands", "n_fft", "sample_rate_hz"),
    [(60, 2048, 44100), (60, 2048, 48000), (48, 1024, 44100), (8, 128, 44100), (128, 4096, 16000)],
)
def test_mel_bands_are_librosa_s(bands: int, n_fft: int, sample_rate_hz: int) -> None:
    filters = pytest.importorskip("librosa.filters", reason="librosa comes with the oracle package")
    table = filters.mel(sr=sample_rate_hz, n_fft=n_fft, n_mels=bands)
    table[0, 0] = table[-1, -1] = 1
    actual = mel_band_bins(bands, n_fft, sample_rate_hz)
    assert [list(bins) for bins in actual] == [np.flatnonzero(row > 0).tolist() for row in table]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear_depth": -1}, "linear_depth must be"),
        ({"architecture": "conformer"}, "architecture must be bs or mel"),
        ({"architecture": "mel", "mel_bands": 600}, "mel_bands 600 is too many"),
        ({"bands": (2, 3)}, "bands cover 5 bins"),
        ({"channels": 6}, "channels must be 1 or 2"),
        ({"stem_names": ("vocals", "vocals")}, "stem_names must be different"),
        ({"dim_head": 7}, "dim_head must be even"),
        ({"depth": 0}, "depth must be a whole number above 0"),
        ({"win_frames": 4096}, "win_frames 4096 is above n_fft"),
        ({"win_frames": 400}, "stft_hop_frames 512 is more than half of win_frames 400"),
        ({"stft_hop_frames": 5000}, "stft_hop_frames 5000 is more than half of win_frames 2048"),
        ({"n_fft": 1 << 20}, "n_fft 1048576 is above"),
        ({"bands": (0, *BS_BANDS)}, "at least one bin wide"),
        ({"architecture": "mel", "mel_bands": 10_000_000}, "mel_bands 10000000 is too many"),
        ({"sample_rate_hz": 7999}, "sample_rate_hz must be from 8000 to 192000"),
        ({"sample_rate_hz": 192_001}, "sample_rate_hz must be from 8000 to 192000"),
        ({"stem_names": "vocals"}, "stem_names must be a list of names, not 'vocals'"),
        ({"stem_names": ("vocals", 7)}, "stem_names must be a list of names"),
        ({"stem_names": ("vocals", "Vocals")}, "stem_names must be different"),
        ({"stem_names": ("vocals", "Residual")}, "no stem may be called residual"),
        ({"zero_dc": 1}, "zero_dc must be true or false, not 1"),
        ({"skip_connection": "no"}, "skip_connection must be true or false"),
    ],
)
def test_impossible_configurations_are_refused_in_one_line(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        RoformerConfig(**{"dim": 16, "depth": 1, **change})
    assert "\n" not in str(caught.value)


def test_config_round_trips_through_plain_values() -> None:
    config = dataclasses.replace(TINY, architecture="mel", stem_names=("a", "b"), skip_connection=True)
    assert RoformerConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="unknown settings dimension"):
        RoformerConfig.from_dict({**config.to_dict(), "dimension": 3})
