"""One update of the weights."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from model.training.distributed import Ranks
from model.training.losses import LOSSES, separation_loss
from model.training.prefetch import Batch
from model.training.recipe import DivergedError, Recipe, learning_rate_at
from model.training.settings import TrainSettings
from model.training.state import TrainingState

_STOPS = (signal.SIGINT, signal.SIGTERM)
ALONE = Ranks(0, 1, "cpu")
_LEAST_SCALE = 2.0**-10  # of FP16 gradients: where even this overflows, it is not for want of range


def train_step(state: TrainingState, batch: Batch, settings: TrainSettings, ranks: Ranks = ALONE) -> float:
    """One update on one batch (this process's part of it); returns the loss of the whole batch.

    Raises TrainingError where the gradient is not finite.
    """
    recipe = settings.recipe
    # Dropout follows from seed, step and rank, so that a resumed run drops the same.
    rng = np.random.default_rng((settings.seed, state.step, ranks.rank))
    torch.manual_seed(int(rng.integers(1 << 62)))
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(state.step, recipe)
    loss = batch_loss(state.model, batch, recipe, look_ahead_of(settings, state.step))
    state.optimizer.zero_grad()
    torch.autograd.backward(state.scaler.scale(loss))
    loss = loss.detach()
    ranks.average([p.grad for p in state.model.parameters() if p.grad is not None] + [loss])
    with _uninterrupted():
        _update(state)
        _update_ema(state, recipe.ema_decay)
        state.step += 1
    return float(loss)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is through: half an update must not be saved."""
    if threading.current_thread() is not threading.main_thread():  # only there do signals arrive
        yield
        return
    waiting: list[int] = []
    before = {number: signal.signal(number, lambda late, _: waiting.append(late)) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in waiting:
        signal.raise_signal(late)


def look_ahead_of(settings: TrainSettings, step: int) -> int | None:
    """The look-ahead of a step, drawn from those of the configuration; None where it has but one."""
    choices = settings.config.look_aheads
    if not choices:
        return None
    return choices[int(np.random.default_rng((settings.seed, step)).integers(len(choices)))]


def batch_loss(model: torch.nn.Module, batch: Batch, recipe: Recipe, look_ahead: int | None = None) -> Tensor:
    """Loss of a network on a batch: a scalar."""
    return separation_loss(
        model(batch.stems.sum(1), look_ahead=look_ahead), batch.stems, batch.split, LOSSES[recipe.loss]
    )


def _update(state: TrainingState) -> None:
    """Clip the gradient and step. An FP16 gradient that overflows lowers the scale of the next ones."""
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    overflow_allowed = state.scaler.is_enabled() and state.scaler.get_scale() > _LEAST_SCALE
    if not torch.isfinite(norm) and not overflow_allowed:
        raise DivergedError(
            f"step {state.step}: the gradient is not finite; resume the last checkpoint, or start anew,"
            " with a lower learning rate"
        )
    state.scaler.step(state.optimizer)
    state.scaler.update()


@torch.no_grad()
def _update_ema(state: TrainingState, decay: float) -> None:
    """Exponential moving average of the weights, with a shorter memory in the first steps."""
    keep = min(decay, (1.0 + state.step) / (10.0 + state.step))
    averages: list[Tensor] = list(state.ema.parameters())
    weights: list[Tensor] = list(state.model.parameters())
    torch._foreach_lerp_(averages, weights, 1.0 - keep)
