"""Other programs that ours is measured beside, where installed. Random weights: they cost the same."""

from __future__ import annotations

import importlib
import sys
import unittest.mock
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from model.config import RoformerConfig

ROFORMER, ROFORMER_VERSION = "BS-RoFormer", "0.3.10"
HS_TASNET, HS_TASNET_VERSION = "HS-TasNet", "0.3.4"
INSTALL = {
    ROFORMER: f"pip install {ROFORMER}=={ROFORMER_VERSION}",
    HS_TASNET: f"pip install --no-deps {HS_TASNET}=={HS_TASNET_VERSION} einx frozendict",
}
UNHEARD = (
    "accelerate",
    "ema_pytorch",
    "librosa",
    "log_depth_recurrent_modeling",
    "loguru",
    "minGRU_pytorch",
    "musdb",
    "torchaudio",
    "torchaudio.functional",
    "torchaudio.transforms",
    "torchcodec",
    "torchcodec.encoders",
)
"""What HS-TasNet imports for training and for files; its network needs none of it."""


class PeerError(RuntimeError):
    """A peer that is not here in the version that is known; one line says how to get it."""


def require(name: str, version: str) -> None:
    """Errors: PeerError."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        raise PeerError(f"not installed: {INSTALL[name]}") from None
    if found != version:
        raise PeerError(f"{name} {found} is another model: {INSTALL[name]}")


def published_roformer(config: RoformerConfig, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The package BS-RoFormer 0.3.10, whose keys the published checkpoints have. Errors: PeerError.

    `dtype` is that of its STFT's window. Threads: any.
    """
    require(ROFORMER, ROFORMER_VERSION)
    package = importlib.import_module("bs_roformer")
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
        "stft_window_fn": _window_of(dtype),
        "mask_estimator_depth": config.mask_depth,
    }
    with redirect_stdout(sys.stderr):  # it remarks on GPUs; stdout may be somebody's JSON
        if config.architecture == "bs":
            peer: nn.Module = package.BSRoformer(**settings, freqs_per_bands=config.bands)
        else:
            peer = package.MelBandRoformer(
                **settings, num_bands=config.mel_bands, sample_rate=config.sample_rate_hz
            )
    if config.expansion != 4:
        _expand(peer, config)
    return peer


def _window_of(dtype: torch.dtype) -> Callable[..., Tensor]:
    return lambda length, device=None: torch.hann_window(length, dtype=dtype, device=device)


def _expand(peer: Any, config: RoformerConfig) -> None:
    """Mask estimators have a setting for their width, which the package's models do not pass on."""
    kind = type(peer.mask_estimators[0])
    widths = peer.mask_estimators[0].dim_inputs
    estimators = (kind(config.dim, widths, config.mask_depth, config.expansion) for _ in range(config.stems))
    peer.mask_estimators = nn.ModuleList(estimators)


def roformer_run(peer: Any, config: RoformerConfig, audio: Tensor) -> tuple[Tensor, Tensor]:
    """A `published_roformer`'s masks [batch, stems, channels, bins, spectral_frames] and its audio."""
    seen: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, _a, out: seen.append(out)) for m in peer.mask_estimators]
    with torch.no_grad():
        audio_out = peer(audio)
    for hook in hooks:
        hook.remove()
    values = torch.stack(seen, dim=1)
    values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    held = torch.view_as_complex(torch.unflatten(values, -1, (-1, 2)))
    if config.architecture == "mel":
        held = _average(peer, held, config.channels)
    return torch.unflatten(held, -1, (-1, config.channels)).permute(0, 1, 4, 3, 2), audio_out


def _average(peer: Any, held: Tensor, channels: int) -> Tensor:
    """What the package does with overlapping bands, from its own indices."""
    counts = peer.num_bands_per_freq.repeat_interleave(channels)
    sums = held.new_zeros(*held.shape[:-1], len(counts)).index_add_(-1, peer.freq_indices, held)
    averages: Tensor = sums / counts
    return averages


def hs_tasnet() -> Any:
    """HSTasNet with random weights, in evaluation. Errors: PeerError."""
    require(HS_TASNET, HS_TASNET_VERSION)
    try:
        with stubbed(UNHEARD):
            package = importlib.import_module("hs_tasnet")
    except ImportError as error:
        raise PeerError(f"does not load ({error}): {INSTALL[HS_TASNET]}") from None
    return package.HSTasNet().eval()


@contextmanager
def stubbed(names: tuple[str, ...]) -> Iterator[None]:
    """Modules that can be imported meanwhile and hold nothing of use; loaded ones stay themselves."""
    stubs = [name for name in names if name not in sys.modules]
    sys.modules.update({name: unittest.mock.MagicMock(name=name) for name in stubs})
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]
