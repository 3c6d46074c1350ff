"""Transformer layers as compiled regions: a GPU's norms, rotary turns, gates and sums fuse into few kernels.

Products and attention stay library calls. A compiled layer gives what a plain one gives; where none can be
compiled (no Triton, no C compiler), plain ones do the work. TORCHDYNAMO_DISABLE=1 asks for plain ones.
"""

import warnings
from collections.abc import Callable
from types import FunctionType

import torch
from torch import nn

from model.compromise import Compromise
from model.devices import first_line, origin, out_of_memory
from model.layers import Transformer, transformer_layer


def compile_layers(network: nn.Module) -> None:
    """Let all transformers of a network share one compiled layer; it is compiled when first run, once for
    every shape. Threads: one at a time."""
    # With code of its own: torch compiles the same code for eight shapes, then no more, and what other
    # networks have compiled must stay, since captured work calls it.
    own = FunctionType(transformer_layer.__code__.replace(), transformer_layer.__globals__)
    layer = torch.compile(own, dynamic=False)
    for module in _transformers(network):
        module.layer = layer


def compile_anew(network: nn.Module) -> None:
    """For other shapes than before, what was compiled; plain layers stay plain. Threads: one at a time."""
    if _compiled(network):
        compile_layers(network)


def run_compiled(network: nn.Module, work: Callable[[], None]) -> None:
    """Do `work`; where layers that were to be compiled cannot be, they become plain again, and it is said.

    Raises torch's OutOfMemoryError also for a compiler that says it in its own words.
    """
    if not _compiled(network):
        work()
        return
    from torch._dynamo.exc import TorchDynamoException  # seconds to import

    try:
        work()
        return
    except TorchDynamoException as error:
        if out_of_memory(origin(error)):
            raise torch.OutOfMemoryError(first_line(error)) from None
        reason = " ".join(str(error).split()) or type(error).__name__
    said = f"layers run uncompiled, which is slower: {reason:.160}"
    warnings.warn(said, Compromise, stacklevel=2)
    use_plain_layers(network)
    work()


def use_plain_layers(network: nn.Module) -> None:
    """Undo `compile_layers`. Threads: one at a time."""
    for module in _transformers(network):
        module.layer = transformer_layer


def _compiled(network: nn.Module) -> bool:
    return any(module.layer is not transformer_layer for module in _transformers(network))


def _transformers(network: nn.Module) -> list[Transformer]:
    return [module for module in network.modules() if isinstance(module, Transformer)]
