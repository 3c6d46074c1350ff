"""What changes a network while it trains and never enters its checkpoint: dropout, lower precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.causal import CausalBSRoformer
from model.causal_layers import FeedForward, GatedAttention
from model.precision import DTYPES


def add_dropout(model: CausalBSRoformer, chance: float) -> None:
    """Drop values inside every feed-forward and of whatever a layer adds, as the published code does.

    Attention weights are spared: fused attention kernels would give up their speed for them.
    """
    if chance == 0.0:
        return

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (F.dropout(inputs[0], chance, module.training), *inputs[1:])

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return F.dropout(output, chance, module.training)

    for layer in model.modules():
        if isinstance(layer, FeedForward):
            layer.narrow.register_forward_pre_hook(before)
            layer.narrow.register_forward_hook(after)
        elif isinstance(layer, GatedAttention):
            layer.out.register_forward_hook(after)


def lower_precision(model: CausalBSRoformer, device_type: str, precision: str) -> None:
    """Run blocks and mask layers under autocast. STFT, band features and mask product stay in FP32: energies
    would overflow FP16, and the loss sees every error of the mask product."""
    if precision == "fp32":
        return
    for module in (*model.blocks, model.masks):
        cast = torch.autocast(device_type, DTYPES[precision])
        module.forward = cast(module.forward)
