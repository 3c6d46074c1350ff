"""GPUs that are missing, do not fit or are lost: one line that says so, and the CPU where that will do."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model import live_hop
from model.causal_stream import CausalStream, sanitised
from model.chunks import forward_of
from model.devices import DeviceError, chosen_device, cuda_trouble, device_errors
from model.grouped_bands import group_bands
from model.precision import PrecisionError, dtype_of
from model.roformer import Roformer
from model.separators import CausalSeparator
from model.windowed import WindowedSeparator
from tests.model.builders import noise, random_model, small
from tests.model.fake_gpu import CUDA, FakeCuda
from tests.model.test_windowed import FRAMING, network_of, ours

ADVICE = "CUDA kernel errors might be reported later.\nCompile with TORCH_USE_CUDA_DSA."
OLD_DRIVER = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)"
MISMATCH = "Error 803: system has unsupported display driver / cuda driver combination"


def machine(
    available: bool,
    warning: str = "",
    error: Exception | None = None,
    capability: tuple[int, int] = (9, 0),
) -> SimpleNamespace:
    """What torch.cuda says of a machine."""

    def is_available() -> bool:
        if warning:
            warnings.warn(warning, stacklevel=1)
        return available

    def init() -> None:
        if error:
            raise error

    return SimpleNamespace(
        is_available=is_available,
        init=init,
        get_device_capability=lambda: capability,
        get_arch_list=lambda: ["sm_80", "sm_86", "sm_90a", "compute_100"],
    )


BROKEN = {
    "no CUDA": (machine(False), r"no NVIDIA GPU was found|this torch has no CUDA in it"),
    "old driver": (machine(False, warning=f"{OLD_DRIVER}.\nUpdate it."), "driver on your system is too old"),
    "other driver": (machine(True, error=RuntimeError(f"{MISMATCH}\n{ADVICE}")), "Error 803"),
    "not compiled": (machine(True, error=AssertionError("Torch not compiled with CUDA")), "not compiled"),
    "old GPU": (machine(True, capability=(7, 5)), r"built for sm_80, .*, not for a GPU of 7\.5"),
    "no words": (machine(True, error=RuntimeError()), "RuntimeError"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_used_is_refused_in_one_line_and_auto_takes_the_cpu(case: str) -> None:
    cuda, complaint = BROKEN[case]
    with pytest.raises(DeviceError, match=complaint) as refused, warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen_device("cuda", cuda)
    said = str(refused.value)
    assert "\n" not in said and "choose --device cpu" in said and ADVICE[:10] not in said
    assert chosen_device("auto", cuda) == chosen_device("cpu", cuda) == "cpu"


def test_no_separator_is_made_for_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.devices.cuda_trouble", lambda _cuda: "no driver")
    for make in (
        lambda: CausalSeparator(random_model(), "cuda"),
        lambda: WindowedSeparator(network_of(), FRAMING, "cuda"),
    ):
        with pytest.raises(DeviceError, match=r"No CUDA device .* \(no driver\): choose --device cpu"):
            make()


def test_no_other_precision_is_taken() -> None:
    with pytest.raises(PrecisionError, match="no precision 'fp8': take auto, fp32, fp16, bf16"):
        WindowedSeparator(network_of(), FRAMING, precision="fp8")
    with pytest.raises(PrecisionError, match="knows float32 alone, not 'fp16'; take fp32"):
        WindowedSeparator(ours(), FRAMING, precision="fp16")
    assert WindowedSeparator(ours(), FRAMING, precision="fp32").latency_frames == FRAMING.latency_frames


@pytest.mark.parametrize(
    ("capability", "runs"), [((8, 0), 1), ((8, 9), 1), ((9, 0), 1), ((12, 0), 1), ((7, 5), 0)]
)
def test_a_gpu_needs_a_torch_that_was_built_for_it(capability: tuple[int, int], runs: bool) -> None:
    assert (cuda_trouble(machine(True, capability=capability)) == "") == runs


def test_a_sound_gpu_is_taken() -> None:
    assert cuda_trouble(machine(True)) == ""
    assert chosen_device("auto", machine(True)) == chosen_device("cuda", machine(True)) == "cuda"


def test_a_gpu_that_only_emulates_bf16_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Some GPU")
    with pytest.raises(PrecisionError, match="Some GPU has no bf16; take --precision fp16"):
        dtype_of("bf16", CUDA)
    assert dtype_of("auto", CUDA) == torch.float16
    assert dtype_of("bf16", torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (
            torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate\n{ADVICE}"),
            "cuda: too little memory",
        ),
        (
            torch.AcceleratorError(f"CUDA error: device lost\n{ADVICE}"),
            r"is lost .*\(CUDA error: device lost\)",
        ),
        (torch.AcceleratorError(f"CUDA error: out of memory\n{ADVICE}"), "cuda: too little memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling\n"), "cuda: too little memory"),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), "cuda: too little memory"),
        (RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"), "cuda: too little memory"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), "cuda: too little memory"),
    ],
)
def test_what_a_driver_says_becomes_one_line(error: Exception, complaint: str) -> None:
    with pytest.raises(DeviceError, match=complaint) as said, device_errors(CUDA):
        raise error
    assert "\n" not in str(said.value)


def test_a_lost_gpu_of_which_a_library_tells_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(device: torch.device) -> None:
        raise torch.AcceleratorError(f"CUDA error: unspecified launch failure\n{ADVICE}")

    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    with pytest.raises(DeviceError, match=r"is lost .*unspecified launch failure"), device_errors(CUDA):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx")


def test_errors_that_are_not_the_drivers_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    for device in (CUDA, torch.device("cpu")):
        with pytest.raises(RuntimeError, match=r"^mat1 and mat2$"), device_errors(device):
            raise RuntimeError("mat1 and mat2")


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (
            torch.AcceleratorError("CUDA error: operation not permitted"),
            DeviceError,
            "not permitted.*take --graphs off",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError, "memory"),
    ],
)
def test_what_cannot_be_captured_says_how_to_do_without(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], said: str
) -> None:
    """To end a capture that failed is an error of its own, which says nothing of the first one."""

    def refuse(*_: object) -> None:
        try:
            raise error
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(live_hop, "replayed", refuse)
    monkeypatch.setattr(live_hop.LiveHop, "on_gpu", property(lambda hop: True))
    hop = live_hop.LiveHop(lambda mixture: mixture, 1, (2, 8), (2, 8), torch.device("cpu"))
    with pytest.raises(raised, match=said):
        hop.capture()


@pytest.mark.parametrize("streams", [0, -1])
def test_less_than_one_stream_is_refused(streams: int) -> None:
    with pytest.raises(ValueError, match=f"^{streams} streams: take one or more$"):
        CausalSeparator(random_model(), streams=streams)
    with pytest.raises(ValueError, match="take one or more"):
        WindowedSeparator(network_of(), FRAMING, streams=streams)


def lose(*_: object) -> None:
    raise torch.AcceleratorError(f"CUDA error: unspecified launch failure\n{ADVICE}")


@pytest.mark.parametrize("kind", ["causal", "windowed"])
def test_a_device_lost_in_a_hop_is_one_line(kind: str) -> None:
    separator = (
        CausalSeparator(random_model()) if kind == "causal" else WindowedSeparator(network_of(), FRAMING)
    )
    fade = getattr(separator, "fade_frames", 0)
    stems = np.zeros((len(separator.stem_names), 2, separator.hop_frames + fade), np.float32)
    separator._hop.process = lose
    with pytest.raises(DeviceError, match="unspecified launch failure") as said:
        separator.separate(noise(2, separator.window_frames), stems)
    assert "\n" not in str(said.value)


def test_a_device_lost_in_a_file_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of()
    forward = forward_of(network, "fp32")
    monkeypatch.setattr(network, "forward", lose)
    with pytest.raises(DeviceError, match="unspecified launch failure"):
        forward(noise(2, 1024)[None])


def test_too_little_memory_for_the_state_of_many_streams_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = random_model()
    monkeypatch.setattr(model, "new_state", refuse)
    with pytest.raises(DeviceError, match="fewer streams"):
        CausalSeparator(model, streams=1000)


@pytest.mark.parametrize("streams", [1, 3])
def test_a_causal_hop_is_captured_on_fixed_buffers_and_starts_from_silence(
    fake_gpu: FakeCuda, streams: int
) -> None:
    """Warm-up and capture leave no trace, and a hop is one replay."""
    model = random_model(small("studio"))
    plain = CausalSeparator(model, streams=streams)
    captured = CausalSeparator(model, "cuda", streams=streams)
    captured.warm_up()
    events = fake_gpu.events
    assert "in stream: capture" in events and events[-1] == "wait for all", "the last reset is waited for"
    shape = (2, captured.hop_frames) if streams == 1 else (streams, 2, captured.hop_frames)
    rng = np.random.default_rng(1)
    heard, expected = (np.zeros((*shape[:-2], 4, *shape[-2:]), np.float32) for _ in range(2))
    for hop in range(30):
        mixture = rng.normal(0, 0.1, shape).astype(np.float32)
        del events[:]
        captured.separate(mixture, heard)
        assert (events[0], events[-1]) == ("in stream: replay", "wait")
        plain.separate(mixture, expected)
        np.testing.assert_allclose(heard, expected, rtol=0, atol=1e-5)
        if hop == 5:
            captured.reset(0)
            plain.reset(0)
            assert events[-1] == "wait for all"
    captured.close()
    assert np.abs(heard).max() > 0.01


class OneDevice(TorchDispatchMode):
    """Refuses what a capture could not take: host tensors, and questions about values."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        assert all(tensor.device.type == "meta" for tensor in tensors), function
        assert function is not torch.ops.aten._local_scalar_dense.default
        self.calls = getattr(self, "calls", 0) + 1
        return out


def grouped(network: Roformer) -> Roformer:
    group_bands(network)
    return network


@pytest.mark.parametrize("streams", [1, 3])
def test_nothing_of_a_hop_is_on_the_host(streams: int) -> None:
    """On a device without memory, for want of a GPU."""
    shape = (2, 441) if streams == 1 else (streams, 2, 441)
    causal = CausalStream(random_model(small("studio")).to("meta"), streams=streams)
    networks = [network_of().to("meta"), grouped(network_of()).to("meta"), ours().to("meta")]
    with torch.inference_mode(), OneDevice() as hop:
        assert causal.process(torch.zeros(shape, device="meta")).shape == (*shape[:-2], 4, 2, 441)
        windows = torch.zeros(streams, 2, FRAMING.window_frames, device="meta")
        for network in networks:
            assert network.part(sanitised(windows), *FRAMING.contribution).shape == (streams, 2, 2, 128)
    assert hop.calls > 100
