"""Compiled layers: the same stems as plain ones, and plain ones where nothing can be compiled."""

import dataclasses
import functools
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch

from model.layers import Transformer, transformer_layer
from model.precision import lower_products
from model.regions import compile_anew, compile_layers, run_compiled
from model.roformer import Roformer
from tests.model.builders import noise
from tests.model.test_roformer import SHORT
from tests.model.test_windowed import network_of


def layers_of(network: Roformer) -> set[object]:
    return {module.layer for module in network.modules() if isinstance(module, Transformer)}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("architecture", ["bs", "mel"])
def test_compiled_layers_give_the_same(architecture: str, dtype: torch.dtype) -> None:
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler here, which torch.compile needs for a CPU")
    network = network_of(dataclasses.replace(SHORT, architecture=architecture, depth=3))
    lower_products(network, dtype)
    audio = torch.from_numpy(noise(2, 2000)).unsqueeze(0)
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        plain = network.part(audio, 1000, 1100)
        compile_layers(network)
        run_compiled(network, lambda: found.append(network.part(audio, 1000, 1100)))
    assert transformer_layer not in layers_of(network)
    error, level = (float(x.square().mean().sqrt()) for x in (found[0] - plain, plain))
    assert error < (1e-5 if dtype == torch.float32 else 2e-3) * level


def test_every_network_is_compiled_for_its_shapes_and_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch stops at eight shapes of the same code, and forgetting would take code from captured work."""
    compiled: list[str] = []

    def remembering(graph: torch.fx.GraphModule, _examples: object) -> Callable[..., object]:
        compiled.append(str(graph.graph))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=remembering))
    networks = [network_of(dataclasses.replace(SHORT, dim=16 + 8 * n)) for n in range(3)]
    audio = torch.from_numpy(noise(2, 2000)).unsqueeze(0)
    with torch.inference_mode():
        for network in networks:
            compile_layers(network)
        for _ in range(2):
            for network in networks:
                network.part(audio, 1000, 1100)
        shapes = len(compiled) // len(networks)
        assert shapes >= 3  # time, its tail, bands
        assert len(compiled) == shapes * len(networks)
        compile_anew(networks[0])
        networks[0].part(audio[..., :1500], 1000, 1100)
    assert len(compiled) == shapes * (len(networks) + 1)


def test_plain_layers_stay_plain_for_other_shapes() -> None:
    network = network_of()
    compile_anew(network)
    assert layers_of(network) == {transformer_layer}


def test_where_nothing_can_be_compiled_plain_layers_work_and_it_is_said_once(monkeypatch) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def failing(*_args: object) -> torch.Tensor:
        raise BackendCompilerFailed(
            "inductor", RuntimeError("Cannot find a working triton installation"), None
        )

    monkeypatch.setattr(torch, "compile", lambda function, **_how: failing)
    network, audio = network_of(), torch.from_numpy(noise(2, 1000)).unsqueeze(0)
    with torch.inference_mode():
        plain = network.part(audio, 500, 600).numpy()
        compile_layers(network)
        found: list[np.ndarray] = []
        with pytest.warns(UserWarning, match="layers run uncompiled.*triton") as said:
            run_compiled(network, lambda: found.append(network.part(audio, 500, 600).numpy()))
    assert len(said) == 1
    assert layers_of(network) == {transformer_layer}
    np.testing.assert_array_equal(found[0], plain)


def test_memory_that_ends_while_compiling_is_told_as_such() -> None:
    """A shorter window may still be compiled."""
    from torch._dynamo.exc import BackendCompilerFailed

    network = network_of()
    for module in network.modules():
        if isinstance(module, Transformer):
            module.layer = None

    def compiling() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except RuntimeError as error:
            raise BackendCompilerFailed("inductor", error, None) from error

    with pytest.raises(torch.OutOfMemoryError):
        run_compiled(network, compiling)
    assert transformer_layer not in layers_of(network)


def test_other_errors_are_not_taken_for_a_compilers() -> None:
    network = network_of()
    for module in network.modules():
        if isinstance(module, Transformer):
            module.layer = None  # anything but the plain one

    def lost() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        run_compiled(network, lost)
