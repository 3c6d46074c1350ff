"""Transformer layers as compiled regions: a GPU's norms, rotary turns, gates and sums fuse into few kernels.

Products and attention stay library calls. A compiled layer gives what a plain one gives; where none can be
compiled (no Triton, no C compiler), plain ones do the work. TORCHDYNAMO_DISABLE=1 asks for plain ones.
"""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from model.compromise import Compromise
from model.layers import Transformer, transformer_layer


def compile_layers(network: nn.Module) -> None:
    """Let all transformers of a network share one compiled layer; it is compiled when first run, once for
    every shape. Threads: one at a time."""
    forget_compiled()
    layer = torch.compile(transformer_layer, dynamic=False)
    for module in _transformers(network):
        module.layer = layer


def forget_compiled() -> None:
    """Let layers be compiled anew: the number of shapes that a process may have is limited.

    Captured work stays as it is. Threads: one at a time.
    """
    torch.compiler.reset()


def run_compiled(network: nn.Module, work: Callable[[], None]) -> None:
    """Do `work`; where layers that were to be compiled cannot be, they become plain again, and it is said."""
    if all(module.layer is transformer_layer for module in _transformers(network)):
        work()
        return
    from torch._dynamo.exc import TorchDynamoException  # seconds to import

    try:
        work()
    except TorchDynamoException as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        said = f"layers run uncompiled, which is slower: {reason:.160}"
        warnings.warn(said, Compromise, stacklevel=2)
        use_plain_layers(network)
        work()


def use_plain_layers(network: nn.Module) -> None:
    """Undo `compile_layers`. Threads: one at a time."""
    for module in _transformers(network):
        module.layer = transformer_layer


def _transformers(network: nn.Module) -> list[Transformer]:
    return [module for module in network.modules() if isinstance(module, Transformer)]
