"""A captured step gives what the uncaptured one gives, in place, and says no to other shapes."""

import pytest
import torch

from model.graph import capture_step
from tests.model.builders import noise, random_model

HOP = 441


def spectrum_of(hops: int) -> torch.Tensor:
    return random_model().stft(torch.from_numpy(noise(2, hops * HOP)).unsqueeze(0))


def test_captured_steps_equal_uncaptured_ones_across_resets() -> None:
    model, frames = random_model(), torch.split(spectrum_of(50), 1, dim=2)
    plain, captured = model.new_state(), model.new_state()
    capture_step(model, captured)
    assert captured.step != plain.step
    for _ in range(2):
        for frame in frames:
            expected = model.advance(frame, plain)
            torch.testing.assert_close(model.advance(frame, captured), expected, rtol=0, atol=1e-4)
        plain.reset()
        captured.reset()


def test_a_captured_state_refuses_more_frames_at_once() -> None:
    model = random_model()
    state = model.new_state(capacity=4)
    capture_step(model, state)
    with pytest.raises(ValueError, match="captured for 1 spectral frame a step, not 3"):
        model.advance(spectrum_of(2), state)


def test_without_a_tracer_the_step_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not supported here")

    monkeypatch.setattr(torch.jit, "trace_module", refuse)
    model, frame = random_model(), spectrum_of(1)[:, :, :1]
    state, expected = model.new_state(), model.new_state()
    capture_step(model, state)
    assert torch.equal(model.advance(frame, state), model.advance(frame, expected))
