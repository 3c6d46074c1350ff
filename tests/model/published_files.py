"""Small random checkpoints in the layout of the published ones, and the YAML that goes with them."""

import warnings
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from model.bands import BS_BANDS

COMMON: dict[str, Any] = {
    "dim": 16,
    "depth": 2,
    "stereo": True,
    "num_stems": 2,
    "time_transformer_depth": 1,
    "freq_transformer_depth": 1,
    "dim_head": 8,
    "heads": 2,
    "stft_n_fft": 2048,
    "stft_hop_length": 441,
    "stft_win_length": 2048,
    "mask_estimator_depth": 2,
}
BS = COMMON | {"freqs_per_bands": BS_BANDS}
MEL = COMMON | {"num_bands": 60}
STEMS = ["Vocals", "other"]


def oracle(settings: dict[str, Any]) -> nn.Module:
    """The reference's network of these settings, random but the same every time."""
    package = pytest.importorskip("bs_roformer", reason="the oracle package BS-RoFormer is not installed")
    network = package.BSRoformer if "freqs_per_bands" in settings else package.MelBandRoformer
    torch.manual_seed(17)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A window was not provided")
        return network(**settings, flash_attn=False).eval()


def weights_of(settings: dict[str, Any]) -> dict[str, Tensor]:
    return dict(oracle(settings).state_dict())


class _Dumper(yaml.SafeDumper):
    """Writes tuples as the published files have them."""


_Dumper.add_representer(
    tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:python/tuple", value)
)


def config_text(settings: dict[str, Any], **sections: dict[str, Any]) -> str:
    """The YAML of a published checkpoint; `sections` replace settings of the sections of that name."""
    content = {
        "audio": {"chunk_size": 44100, "sample_rate": 44100, "hop_length": 441},
        "model": settings | {"attn_dropout": 0.1, "flash_attn": True, "zero_dc": False},
        "training": {"instruments": STEMS, "target_instrument": None, "lr": "5e-05"},
        "inference": {"num_overlap": 2},
    }
    for name, changes in sections.items():
        content[name] = {k: v for k, v in (content[name] | changes).items() if v is not ...}
    return yaml.dump(content, Dumper=_Dumper)
