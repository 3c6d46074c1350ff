"""The PyPI package BS-RoFormer 0.3.10, whose keys the published checkpoints use, for a configuration."""

import pytest
import torch
from torch import Tensor, nn

from host.peers import published_roformer
from host.peers import roformer_run as oracle_run
from model.config import RoformerConfig
from model.roformer import Roformer, build

__all__ = ["noise", "oracle_of", "oracle_run", "pair_of"]

pytest.importorskip("bs_roformer", reason="the oracle package BS-RoFormer is not installed")


def oracle_of(config: RoformerConfig, dtype: torch.dtype) -> nn.Module:
    """Random weights, norms and biases included, so that none is at its trivial start."""
    torch.manual_seed(11)
    oracle = published_roformer(config, dtype)
    for parameter in oracle.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter.data))
    return oracle.to(dtype).eval()


def pair_of(config: RoformerConfig, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Roformer]:
    oracle, ours = oracle_of(config, dtype), build(config).to(dtype).eval()
    ours.load_state_dict(oracle.state_dict(), strict=True)
    return oracle, ours


def noise(config: RoformerConfig, dtype: torch.dtype, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (batch, config.channels, 12 * config.stft_hop_frames)
    return 0.1 * torch.randn(shape, generator=generator, dtype=dtype)
