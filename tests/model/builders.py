"""Small models and deterministic audio that several tests share."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from model.causal import CausalBSRoformer
from model.config import CausalConfig
from model.profiles import PROFILES

SMALL_LIVE = dataclasses.replace(
    CausalConfig(), dim=16, depth=2, heads=2, dim_head=8, mask_hidden=8, past_frames=16
)
"""The live framing (hop 441, latency 882, four stems) with little inside."""


def small(profile: str) -> CausalConfig:
    """The framing and the look-ahead of a profile with little inside."""
    config = PROFILES[profile]
    return dataclasses.replace(
        SMALL_LIVE, hop_frames=config.hop_frames, look_ahead_frames=config.look_ahead_frames
    )


def random_model(config: CausalConfig = SMALL_LIVE) -> CausalBSRoformer:
    """Random weights, large enough that masks differ by far more than a tolerance."""
    torch.manual_seed(3)
    model = CausalBSRoformer(config).eval()
    for output in model.masks.outputs:
        output.weight.data.mul_(10)
    if config.look_aheads:
        model.look_ahead.data.normal_()
    return model


def noise(channels: int, frames: int, seed: int = 7) -> NDArray[np.float32]:
    """Noise whose level rises by 40 dB and starts again, with a silent stretch."""
    level = np.roll(10 ** np.linspace(-2, 0, frames), frames // 3)
    audio = 0.3 * level * np.random.default_rng(seed).standard_normal((channels, frames))
    audio[..., frames // 4 : frames // 4 + frames // 10] = 0
    return audio.astype(np.float32)
