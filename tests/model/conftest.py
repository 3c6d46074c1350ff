"""One thread: for models this small, threads that wait for each other cost more than they give."""

from collections.abc import Iterator

import pytest
import torch

from tests.model.fake_gpu import FakeCuda, Transfers

torch.set_num_threads(1)


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Inside of it "cuda" can be used, and what comes of that is in `events`. Nothing is compiled."""
    cuda = FakeCuda()
    monkeypatch.setattr("model.devices.cuda_trouble", lambda _cuda: "")
    monkeypatch.setattr("model.live_hop.replayed", cuda.replayed)
    # Of tensors that are in truth on a CPU it would make code for one.
    monkeypatch.setattr("model.separators.capture_hop", lambda _stream: None)
    monkeypatch.setattr(torch, "compile", lambda layer, **_how: layer)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: cuda.events.append("wait for all"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_how: True)
    with Transfers(cuda):
        yield cuda
