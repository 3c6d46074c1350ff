"""What the separators ask of a GPU, on a fake one: lowered, grouped, compiled, captured, copied, and the same
stems as on a CPU."""

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.grouped_bands import BandProducts, GroupedBandSplit, GroupedMaskEstimators
from model.layers import transformer_layer
from model.live_hop import LiveHop
from model.precision import Precision
from model.roformer import Roformer
from model.separators import CausalSeparator
from model.windowed import WindowedSeparator
from tests.model.builders import noise
from tests.model.fake_gpu import CUDA, FakeCuda
from tests.model.test_regions import layers_of
from tests.model.test_streams import STREAMS, Make, every_kind, signals, stems_of
from tests.model.test_windowed import FRAMING, network_of


def one_hop(separator: CausalSeparator | WindowedSeparator) -> np.ndarray:
    stems = stems_of(separator)
    separator.separate(signals(separator)[0], stems)
    return stems


@every_kind
def test_with_graphs_a_hop_is_captured_once_and_then_only_replayed(make: Make, fake_gpu: FakeCuda) -> None:
    separator = make(streams=STREAMS, device="cuda")
    separator.warm_up()
    assert fake_gpu.events.count("in stream: capture") == 1
    del fake_gpu.events[:]
    one_hop(separator)
    separator.close()
    assert fake_gpu.events == ["in stream: replay", "in stream: upload", "in stream: download", "wait"]


@every_kind
def test_without_graphs_nothing_is_captured_and_every_hop_is_waited_for(
    make: Make, fake_gpu: FakeCuda
) -> None:
    separator = make(streams=STREAMS, device="cuda", graphs=False)
    separator.warm_up()
    assert set(fake_gpu.events) == {"upload", "download", "wait for all"}
    del fake_gpu.events[:]
    one_hop(separator)
    separator.close()
    assert fake_gpu.events == ["upload", "download", "wait for all"]


def test_between_pinned_buffers_and_a_gpu_no_copy_is_waited_for(fake_gpu: FakeCuda) -> None:
    """A copy from or to what is not pinned is none that the fake GPU knows of."""
    hop = LiveHop(lambda mixture: 2 * mixture, 1, (2, 96), (2, 96), CUDA)
    mixture, stems = noise(2, 96), np.zeros((2, 96), np.float32)
    hop(mixture, stems)
    assert fake_gpu.events == ["upload", "download", "wait for all"]
    np.testing.assert_array_equal(stems, 2 * mixture)


@every_kind
def test_closing_gives_the_captured_work_back(make: Make, fake_gpu: FakeCuda) -> None:
    separator = make(streams=STREAMS, device="cuda")
    separator.warm_up()
    assert len(fake_gpu.graphs) == 1
    separator.close()
    assert not fake_gpu.graphs


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(audio**2)))


def products_of(network: Roformer) -> set[torch.dtype]:
    """In what precision the weights of all products are."""
    modules = [module for module in network.modules() if isinstance(module, nn.Linear | BandProducts)]
    return {parameter.dtype for module in modules for parameter in module.parameters()}


@pytest.mark.parametrize(
    ("precision", "dtype", "error"),
    [
        ("auto", torch.float16, 2e-3),
        ("fp16", torch.float16, 2e-3),
        ("bf16", torch.bfloat16, 1e-2),
        ("fp32", torch.float32, 1e-5),
    ],
)
def test_a_gpu_has_products_in_the_precision_asked_for_and_the_stems_of_a_cpu(
    precision: Precision, dtype: torch.dtype, error: float, fake_gpu: FakeCuda
) -> None:
    network = network_of()
    separator = WindowedSeparator(network, FRAMING, "cuda", precision)
    separator.warm_up()
    assert products_of(network) == {dtype}
    found, expected = (np.zeros((2, 2, 128), np.float32) for _ in range(2))
    mixture = noise(2, FRAMING.window_frames)
    separator.separate(mixture, found)
    separator.close()
    WindowedSeparator(network_of(), FRAMING).separate(mixture, expected)
    assert rms(found - expected) < error * rms(expected)
    assert np.abs(expected).max() > 1e-3


def test_a_gpu_works_on_grouped_bands(fake_gpu: FakeCuda) -> None:
    network = network_of()
    WindowedSeparator(network, FRAMING, "cuda")
    assert isinstance(network.band_split, GroupedBandSplit)
    assert isinstance(network.mask_estimators, GroupedMaskEstimators)


def test_a_gpu_works_on_compiled_layers(fake_gpu: FakeCuda) -> None:
    network = network_of()
    WindowedSeparator(network, FRAMING, "cuda")
    assert transformer_layer not in layers_of(network)


def test_a_cpu_works_on_the_network_as_it_is() -> None:
    network = network_of()
    WindowedSeparator(network, FRAMING)
    assert products_of(network) == {torch.float32}
    assert not isinstance(network.band_split, GroupedBandSplit)
    assert layers_of(network) == {transformer_layer}


MATMUL, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn
SHORTCUTS = [
    (MATMUL, "allow_tf32"),
    (CUDNN, "allow_tf32"),
    (MATMUL, "allow_fp16_reduced_precision_reduction"),
    (MATMUL, "allow_bf16_reduced_precision_reduction"),
]


def taken() -> list[bool]:
    return [getattr(place, name) for place, name in SHORTCUTS]


@pytest.fixture
def shortcuts_taken() -> Iterator[None]:
    """All that torch may take, until the test ends. (monkeypatch cannot give these attributes back.)"""
    before = taken()
    for place, name in SHORTCUTS:
        setattr(place, name, True)
    yield
    for (place, name), value in zip(SHORTCUTS, before, strict=True):
        setattr(place, name, value)


@every_kind
def test_a_warm_separator_lets_a_gpu_take_no_shortcuts_in_arithmetic(
    make: Make, fake_gpu: FakeCuda, shortcuts_taken: None
) -> None:
    separator = make(streams=STREAMS, device="cuda")
    assert all(taken())
    separator.warm_up()
    separator.close()
    assert not any(taken())


def test_a_capture_without_memory_leaves_nothing_behind(fake_gpu: FakeCuda) -> None:
    """At once, without a garbage collection: the shorter window that follows needs the memory."""
    network = network_of()
    held: list[weakref.ref[Tensor]] = []

    def part(audio: Tensor, start: int, end: int) -> Tensor:
        stems = Roformer.part(network, audio, start, end)
        held.append(weakref.ref(stems))
        if "in stream: capture" in fake_gpu.events:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stems

    network.part = part
    separator = WindowedSeparator(network, FRAMING, "cuda")
    gc.disable()
    try:
        assert not separator._fits()
        assert held and not any(stems() is not None for stems in held)
        assert not fake_gpu.graphs
    finally:
        gc.enable()
