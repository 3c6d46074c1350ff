"""A streaming step captured once and replayed without Python: about 1.4 times faster on one CPU core."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from model.causal import CausalBSRoformer, CausalState


def capture_step(model: CausalBSRoformer, state: CausalState) -> None:
    """Replace `state.step` by a captured graph for one spectral frame per call; resets the state.

    The graph writes to the state's own tensors, so `reset` stays in place, and it refuses other shapes.
    torch.jit is deprecated but alone in needing neither a compiler on the user's machine nor a warm-up of
    seconds; where a torch cannot trace, the state keeps its uncaptured step. Threads: as the model.
    """
    config = model.config
    spectrum = torch.zeros(1, config.channels, 1, config.n_fft // 2 + 1, dtype=torch.complex64)
    inputs = (spectrum, *model.context(1, state), *state.rings)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            traced = torch.jit.trace_module(model, {"step": inputs}, check_trace=False)  # type: ignore[no-untyped-call]
        except (RuntimeError, AttributeError):
            return
        finally:
            state.reset()
    state.step = _one_frame_only(traced.step)


def _one_frame_only(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def checked(spectrum: Tensor, *rest: Tensor) -> Tensor:
        if spectrum.shape[2] != 1:
            raise ValueError(f"this state was captured for 1 spectral frame a step, not {spectrum.shape[2]}")
        return step(spectrum, *rest)

    return checked
