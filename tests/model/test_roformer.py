"""BSRoformer against the PyPI package BS-RoFormer 0.3.10, whose keys the published checkpoints use."""

import pytest
import torch
from torch import Tensor, nn

from model.bands import BS_BANDS
from model.config import ConfigError, RoformerConfig
from model.roformer import BSRoformer

bs_roformer = pytest.importorskip("bs_roformer", reason="the oracle package BS-RoFormer is not installed")

SMALL_BANDS = (2,) * 8 + (4,) * 4 + (33,)
GRID = [
    RoformerConfig(
        16,
        1,
        stem_names=("a",),
        channels=1,
        heads=2,
        dim_head=8,
        bands=SMALL_BANDS,
        n_fft=128,
        win_frames=128,
        stft_hop_frames=32,
    ),
    RoformerConfig(
        16,
        2,
        stem_names=("a", "b"),
        channels=2,
        heads=2,
        dim_head=8,
        bands=SMALL_BANDS,
        n_fft=128,
        win_frames=128,
        stft_hop_frames=32,
        mask_depth=3,
    ),
    RoformerConfig(
        24,
        3,
        stem_names=tuple("abcd"),
        channels=2,
        heads=3,
        dim_head=4,
        bands=SMALL_BANDS,
        n_fft=128,
        win_frames=128,
        stft_hop_frames=29,
        mask_depth=1,
        time_depth=2,
        freq_depth=2,
    ),
    RoformerConfig(24, 2, stem_names=("a", "b"), channels=2, heads=2, dim_head=16, stft_hop_frames=441),
]


def window_of(dtype: torch.dtype):
    return lambda length, device=None: torch.hann_window(length, dtype=dtype, device=device)


def oracle_of(config: RoformerConfig, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(11)
    oracle = bs_roformer.BSRoformer(
        config.dim,
        depth=config.depth,
        stereo=config.channels == 2,
        num_stems=config.stems,
        time_transformer_depth=config.time_depth,
        freq_transformer_depth=config.freq_depth,
        freqs_per_bands=config.bands,
        dim_head=config.dim_head,
        heads=config.heads,
        flash_attn=False,
        stft_n_fft=config.n_fft,
        stft_hop_length=config.stft_hop_frames,
        stft_win_length=config.win_frames,
        stft_window_fn=window_of(dtype),
        mask_estimator_depth=config.mask_depth,
    )
    for parameter in oracle.parameters():  # so that norms and biases are not at their trivial start
        parameter.data.add_(0.05 * torch.randn_like(parameter.data))
    return oracle.to(dtype).eval()


def pair_of(config: RoformerConfig, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, BSRoformer]:
    oracle, ours = oracle_of(config, dtype), BSRoformer(config).to(dtype).eval()
    ours.load_state_dict(oracle.state_dict())
    return oracle, ours


def noise(config: RoformerConfig, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return 0.1 * torch.randn(
        2, config.channels, 20 * config.stft_hop_frames, generator=generator, dtype=dtype
    )


def oracle_run(oracle: nn.Module, audio: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """The oracle's own band-split input, its masks and its output."""
    seen: list[Tensor] = []
    masks: list[Tensor] = []
    hooks = [oracle.band_split.register_forward_pre_hook(lambda _, args: seen.append(args[0]))]
    hooks += [m.register_forward_hook(lambda _m, _a, out: masks.append(out)) for m in oracle.mask_estimators]
    with torch.no_grad():
        audio_out = oracle(audio)
    for hook in hooks:
        hook.remove()
    return seen[0], masks, audio_out


def to_spectrum(bins: Tensor, channels: int) -> Tensor:
    """[batch, spectral_frames, (bins channels 2)] -> complex [batch, channels, bins, spectral_frames]."""
    parts = bins.unflatten(-1, (-1, channels, 2)).permute(0, 3, 2, 1, 4).contiguous()
    return torch.view_as_complex(parts)


def mask_pair(config: RoformerConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    oracle, ours = pair_of(config, dtype)
    bins, masks, _ = oracle_run(oracle, noise(config, dtype))
    expected = torch.stack([to_spectrum(mask, config.channels) for mask in masks], dim=1)
    with torch.no_grad():
        return ours.mask(to_spectrum(bins, config.channels)), expected


@pytest.mark.parametrize("config", GRID)
def test_keys_and_shapes_are_the_published_ones(config: RoformerConfig) -> None:
    oracle, ours = oracle_of(config, torch.float32).state_dict(), BSRoformer(config).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in oracle.items()}


@pytest.mark.parametrize("config", GRID)
def test_mask_equals_the_oracle_in_float64(config: RoformerConfig) -> None:
    actual, expected = mask_pair(config, torch.float64)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", GRID)
def test_mask_equals_the_oracle_in_float32(config: RoformerConfig) -> None:
    actual, expected = mask_pair(config, torch.float32)
    error_rms, mask_rms = (x.abs().square().mean().sqrt() for x in (actual - expected, expected))
    assert error_rms < 1e-5 * mask_rms


@pytest.mark.parametrize("config", GRID)
def test_audio_equals_the_oracle(config: RoformerConfig) -> None:
    oracle, ours = pair_of(config)
    audio = noise(config, torch.float64)
    expected = oracle_run(oracle, audio)[2].reshape(2, config.stems, config.channels, -1)
    with torch.no_grad():
        actual = ours(audio)
    assert actual.shape == (2, config.stems, config.channels, audio.shape[-1])
    torch.testing.assert_close(actual[..., : expected.shape[-1]], expected, rtol=0, atol=1e-9)


def test_output_has_the_length_of_the_input() -> None:
    config = GRID[1]
    with torch.no_grad():
        assert BSRoformer(config)(torch.zeros(1, 2, 1001)).shape == (1, 2, 2, 1001)


def test_zero_dc_silences_only_bin_zero() -> None:
    config = GRID[1]
    _, ours = pair_of(config)
    silent_dc = BSRoformer(RoformerConfig(**{**vars(config), "zero_dc": True})).double()
    silent_dc.load_state_dict(ours.state_dict())
    audio = noise(config, torch.float64)
    with torch.no_grad():
        stems = ours.stft(audio).unsqueeze(1) * ours.mask(ours.stft(audio))
        stems[..., 0, :] = 0
        expected = ours._stft.inverse(stems, audio.shape[-1])
        torch.testing.assert_close(silent_dc(audio), expected, rtol=0, atol=1e-12)
        assert (expected - ours(audio)).abs().max() > 1e-6


def test_skip_connection_adds_earlier_blocks() -> None:
    config = GRID[2]
    _, ours = pair_of(config)
    skipping = BSRoformer(RoformerConfig(**{**vars(config), "skip_connection": True})).double()
    skipping.load_state_dict(ours.state_dict())
    x = torch.randn(1, 5, len(config.bands), config.dim, dtype=torch.float64)
    outputs: list[Tensor] = []

    def run(block: nn.Module, x: Tensor) -> Tensor:
        time, freq = block.children()
        x = time(x.transpose(1, 2)[0]).unsqueeze(0).transpose(1, 2)
        return freq(x[0]).unsqueeze(0)

    with torch.no_grad():
        y = x
        for block in ours.layers:
            y = run(block, y + sum(outputs))
            outputs.append(y)
        torch.testing.assert_close(skipping._transform(x), ours.final_norm(y), rtol=0, atol=1e-12)


def test_half_precision_weights_keep_a_float32_stft() -> None:
    config = GRID[1]
    model = BSRoformer(config).to(torch.bfloat16).eval()
    audio = noise(config, torch.float32)
    with torch.no_grad():
        spectrum = model.stft(audio)
        assert spectrum.dtype == model.mask(spectrum).dtype == torch.complex64
        torch.testing.assert_close(spectrum, BSRoformer(config).stft(audio), rtol=0, atol=2e-3)
        assert model(audio).isfinite().all()


def test_half_precision_weights_keep_rotary_angles() -> None:
    exact, lowered = (BSRoformer(GRID[3]).layers[0][0].layers[0][0].rotary_embed for _ in range(2))
    lowered.to(torch.bfloat16)
    torch.testing.assert_close(lowered.table(1101), exact.table(1101), rtol=0, atol=0)


def test_published_band_table_covers_the_stft() -> None:
    assert len(BS_BANDS) == 62 and sum(BS_BANDS) == 1025


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear_depth": -1}, "linear_depth must be"),
        ({"architecture": "conformer"}, "architecture must be bs or mel"),
        ({"bands": (2, 3)}, "bands cover 5 bins"),
        ({"channels": 6}, "channels must be 1 or 2"),
        ({"dim_head": 7}, "dim_head must be even"),
        ({"depth": 0}, "depth must be a whole number above 0"),
        ({"win_frames": 4096}, "win_frames 4096 is above n_fft"),
    ],
)
def test_impossible_configurations_are_refused_in_one_line(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        RoformerConfig(**{"dim": 16, "depth": 1, **change})
    assert "\n" not in str(caught.value)


def test_config_round_trips_through_plain_values() -> None:
    config = GRID[2]
    assert RoformerConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="unknown settings dimension"):
        RoformerConfig.from_dict({**config.to_dict(), "dimension": 3})
