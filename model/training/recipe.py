"""How to train: the project's own recipe, cheap enough for one CPU core, and the published one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PRECISIONS = ("fp32", "bf16", "fp16")


class TrainingError(RuntimeError):
    """Training that cannot start or go on: one line with what, why and what to do."""


class DivergedError(TrainingError):
    """A network that is lost: what was saved of it before is worth more than what it is now."""


@dataclass(frozen=True)
class Recipe:
    """What shapes the weights beside the items.

    `loss` is a key of LOSSES, `items` one of STREAMS. The learning rate warms up over `warmup_steps`, then
    falls along half a cosine to 2% at the last step, or, where `decay_steps` is given, by a tenth each time
    that many are done. The transformers run in `precision`; STFT, features, masks and loss in FP32.
    `dropout` is that of the transformers while training. Items last `item_s` seconds, rounded to hops.
    Raises TrainingError.
    """

    loss: str = "snr"
    items: str = "own"
    steps: int = 1500
    batch: int = 2
    item_s: float = 2.55
    learning_rate: float = 2e-3
    warmup_steps: int = 60
    decay_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    ema_decay: float = 0.995
    dropout: float = 0.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        _require(self.precision in PRECISIONS, f"precision must be one of {', '.join(PRECISIONS)}")
        _require(0.0 <= self.dropout < 1.0, f"dropout must be from 0 to below 1, not {self.dropout}")
        _require(0.0 <= self.ema_decay < 1.0, f"EMA decay must be from 0 to below 1, not {self.ema_decay}")
        rate = self.learning_rate
        _require(0.0 < rate < math.inf, f"learning rate must be a number above 0, not {rate}")
        _require(1 <= self.batch <= 100_000, f"batch must be from 1 to 100000, not {self.batch}")
        _require(1 <= self.steps <= 10**9, f"steps must be from 1 to a billion, not {self.steps}")
        _require(0.1 <= self.item_s <= 60.0, f"items must last 0.1 to 60 seconds, not {self.item_s:g}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TrainingError(message)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "own": Recipe(),
        "published": Recipe(
            loss="published",
            items="published",
            steps=400_000,
            batch=8,
            item_s=8.0,
            learning_rate=5e-4,
            warmup_steps=0,
            decay_steps=40_000,
            betas=(0.9, 0.999),
            ema_decay=0.999,
            dropout=0.1,
            precision="bf16",
        ),
    }
)
"""By name. "published" is that of arXiv 2309.02612, but for a few things: its loss is taken relative to the
mixture's level and weighs stems as "own" does (the paper has a network for each), gradients are clipped, the
weights of attentions are not dropped, and the average of the weights is a shorter one while there are few
steps. Its steps and batch follow the machine, and the network's size is no part of a recipe: the paper's is
dim 384, depth 12, 8 heads of 64."""


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step, counted from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.decay_steps is not None:
        return recipe.learning_rate * float(0.9 ** (step // recipe.decay_steps))
    along = min(1.0, (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps))
    return recipe.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * along)))
