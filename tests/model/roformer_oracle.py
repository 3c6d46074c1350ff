"""The PyPI package BS-RoFormer 0.3.10, whose keys the published checkpoints use, for a configuration."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.config import RoformerConfig
from model.roformer import Roformer, build

package = pytest.importorskip("bs_roformer", reason="the oracle package BS-RoFormer is not installed")


def window_of(dtype: torch.dtype) -> Callable[..., Tensor]:
    return lambda length, device=None: torch.hann_window(length, dtype=dtype, device=device)


def oracle_of(config: RoformerConfig, dtype: torch.dtype) -> nn.Module:
    """Random weights, norms and biases included, so that none is at its trivial start."""
    torch.manual_seed(11)
    settings = {
        "dim": config.dim,
        "depth": config.depth,
        "stereo": config.channels == 2,
        "num_stems": config.stems,
        "time_transformer_depth": config.time_depth,
        "freq_transformer_depth": config.freq_depth,
        "dim_head": config.dim_head,
        "heads": config.heads,
        "flash_attn": True,
        "stft_n_fft": config.n_fft,
        "stft_hop_length": config.stft_hop_frames,
        "stft_win_length": config.win_frames,
        "stft_window_fn": window_of(dtype),
        "mask_estimator_depth": config.mask_depth,
    }
    if config.architecture == "bs":
        oracle = package.BSRoformer(**settings, freqs_per_bands=config.bands)
    else:
        oracle = package.MelBandRoformer(
            **settings, num_bands=config.mel_bands, sample_rate=config.sample_rate_hz
        )
    if config.expansion != 4:
        _expand(oracle, config)
    for parameter in oracle.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter.data))
    return oracle.to(dtype).eval()


def _expand(oracle: nn.Module, config: RoformerConfig) -> None:
    """Mask estimators have a setting for their width, which the oracle's models do not pass on."""
    kind = type(oracle.mask_estimators[0])
    widths = oracle.mask_estimators[0].dim_inputs
    estimators = (kind(config.dim, widths, config.mask_depth, config.expansion) for _ in range(config.stems))
    oracle.mask_estimators = nn.ModuleList(estimators)


def pair_of(config: RoformerConfig, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Roformer]:
    oracle, ours = oracle_of(config, dtype), build(config).to(dtype).eval()
    ours.load_state_dict(oracle.state_dict(), strict=True)
    return oracle, ours


def noise(config: RoformerConfig, dtype: torch.dtype, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (batch, config.channels, 12 * config.stft_hop_frames)
    return 0.1 * torch.randn(shape, generator=generator, dtype=dtype)


def oracle_run(oracle: nn.Module, config: RoformerConfig, audio: Tensor) -> tuple[Tensor, Tensor]:
    """The oracle's masks [batch, stems, channels, bins, spectral_frames] and its output audio."""
    seen: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, _a, out: seen.append(out)) for m in oracle.mask_estimators]
    with torch.no_grad():
        audio_out = oracle(audio)
    for hook in hooks:
        hook.remove()
    held = torch.view_as_complex(torch.stack(seen, dim=1).unflatten(-1, (-1, 2)))
    if config.architecture == "mel":
        held = _average(oracle, held, config.channels)
    return held.unflatten(-1, (-1, config.channels)).permute(0, 1, 4, 3, 2), audio_out


def _average(oracle: nn.Module, held: Tensor, channels: int) -> Tensor:
    """What the oracle does with overlapping bands, from its own indices."""
    counts = oracle.num_bands_per_freq.repeat_interleave(channels)
    summed = held.new_zeros(*held.shape[:-1], len(counts)).index_add_(-1, oracle.freq_indices, held)
    return summed / counts
