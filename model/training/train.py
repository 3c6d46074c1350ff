"""Trains the built-in model: resumable to the bit, with EMA weights and scores on held-out songs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from model.causal import CausalBSRoformer
from model.checkpoint import ModelCard, save_checkpoint
from model.config import CausalConfig
from model.training.dataset import Batch, ItemStream, Pool
from model.training.losses import LOSSES, separation_loss
from model.training.sources import Sources, load_library, load_songs, merged


class TrainingError(RuntimeError):
    """Training that cannot start or go on: one line with what, why and what to do."""


@dataclass(frozen=True)
class TrainSettings:
    """What to train, on what, for how long.

    `audio_dir` is a library with a files.tsv, `songs_dir` a folder of songs in four stems; both, one or none
    (then the project's own songs alone). `steps` shapes the learning rate (warm-up, then half a cosine);
    `minutes` ends this run earlier. `resume` goes on from the checkpoint in `out_dir`. `loss` is "snr" or
    "published". An item has `item_hops` hops; EMA weights are what is exported.
    """

    out_dir: Path
    audio_dir: Path | None = None
    songs_dir: Path | None = None
    config: CausalConfig = field(default_factory=CausalConfig)
    steps: int = 1500
    minutes: float = math.inf
    resume: bool = False
    seed: int = 0
    batch: int = 2
    item_hops: int = 255
    learning_rate: float = 2e-3
    warmup_steps: int = 60
    ema_decay: float = 0.995
    loss: str = "snr"
    device: str = "cpu"
    checkpoint_every_s: float = 120.0
    pool: Pool = field(default_factory=Pool)

    @property
    def checkpoint_path(self) -> Path:
        """Where the resumable state lies."""
        return self.out_dir / "training.pt"

    @property
    def weights_path(self) -> Path:
        """Where the EMA weights lie: what every other command takes as a model."""
        return self.out_dir / "model.safetensors"

    @property
    def cache_dir(self) -> Path:
        """Where decoded recordings and rendered songs lie; may be deleted."""
        return self.out_dir / "cache"


@dataclass(frozen=True)
class Progress:
    """One report: steps done of all, the loss smoothed over about 50 steps, seconds left (estimated)."""

    step: int
    steps: int
    loss: float
    eta_s: float


@dataclass
class TrainingState:
    """Everything that a resumed run needs. The items and their order follow from `step` alone."""

    model: CausalBSRoformer
    ema: CausalBSRoformer
    optimizer: torch.optim.AdamW
    step: int = 0
    smoothed_loss: float = math.nan


def load_sources(settings: TrainSettings) -> Sources:
    """Training recordings of all folders given. Raises TrainingDataError where a folder is unusable."""
    sources = Sources()
    if settings.audio_dir is not None:
        sources = load_library(settings.audio_dir, settings.cache_dir)
    if settings.songs_dir is not None:
        sources = merged(sources, load_songs(settings.songs_dir, settings.cache_dir))
    return sources


def new_state(settings: TrainSettings) -> TrainingState:
    """Fresh weights from the seed."""
    torch.manual_seed(settings.seed)
    model = CausalBSRoformer(settings.config).to(settings.device)
    ema = CausalBSRoformer(settings.config).to(settings.device).requires_grad_(False)
    ema.load_state_dict(model.state_dict())
    return TrainingState(model, ema, _optimizer(model, settings))


def _optimizer(model: CausalBSRoformer, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; weight decay for matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then half a cosine down to 2% of the peak."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    along = min(1.0, (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps))
    return settings.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * along)))


def train_step(state: TrainingState, batch: Batch, settings: TrainSettings) -> float:
    """One update on one batch; returns the loss. Raises TrainingError where it is not finite."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(state.step, settings)
    stems, mixtures, split = (_tensor(a, settings) for a in (batch.stems, batch.mixtures, batch.split))
    loss = separation_loss(state.model(mixtures), stems, split, LOSSES[settings.loss])
    state.optimizer.zero_grad()
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    if not torch.isfinite(norm):
        raise TrainingError(
            f"step {state.step}: the gradient is not finite; resume with a lower learning rate"
        )
    state.optimizer.step()
    _update_ema(state, settings.ema_decay)
    state.step += 1
    return float(loss.detach())


def _tensor(array: NDArray[Any], settings: TrainSettings) -> Tensor:
    return torch.from_numpy(array).to(settings.device)


@torch.no_grad()
def _update_ema(state: TrainingState, decay: float) -> None:
    """Exponential moving average of the weights, with a shorter memory in the first steps."""
    keep = min(decay, (1.0 + state.step) / (10.0 + state.step))
    averages: list[Tensor] = list(state.ema.parameters())
    weights: list[Tensor] = list(state.model.parameters())
    torch._foreach_lerp_(averages, weights, 1.0 - keep)


def save_state(state: TrainingState, settings: TrainSettings) -> None:
    """Write the checkpoint and the EMA weights, each whole or not at all."""
    settings.out_dir.mkdir(parents=True, exist_ok=True)
    part = settings.checkpoint_path.with_suffix(".part")
    torch.save(
        {
            "config": settings.config.to_dict(),
            "seed": settings.seed,
            "batch": settings.batch,
            "model": state.model.state_dict(),
            "ema": state.ema.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "step": state.step,
            "smoothed_loss": state.smoothed_loss,
        },
        part,
    )
    part.replace(settings.checkpoint_path)
    save_checkpoint(settings.weights_path, state.ema, _card(state, settings))


def _card(state: TrainingState, settings: TrainSettings) -> ModelCard:
    items = state.step * settings.batch
    hours = items * settings.item_hops * settings.config.hop_frames / settings.config.sample_rate_hz / 3600
    text = f"Trained with `stembridge train` for {state.step} steps on {hours:.1f} hours of mixed items."
    return ModelCard("NOASSERTION", "stembridge train", text)


def load_state(settings: TrainSettings) -> TrainingState:
    """The state of the checkpoint in `out_dir`. Raises TrainingError if missing or of another run."""
    path = settings.checkpoint_path
    if not path.is_file():
        raise TrainingError(f"{path}: nothing to resume; start without --resume")
    try:
        saved = torch.load(path, map_location=settings.device, weights_only=True)
    except Exception as error:
        raise TrainingError(f"{path}: not a training checkpoint; delete it and start again") from error
    for name, wanted in (
        ("config", settings.config.to_dict()),
        ("seed", settings.seed),
        ("batch", settings.batch),
    ):
        if saved[name] != wanted:
            raise TrainingError(f"{path}: was trained with another {name} ({saved[name]}); use that one")
    state = new_state(settings)
    state.model.load_state_dict(saved["model"])
    state.ema.load_state_dict(saved["ema"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step, state.smoothed_loss = saved["step"], saved["smoothed_loss"]
    return state


def _smoothed(previous: float, value: float) -> float:
    return value if math.isnan(previous) else previous + 0.02 * (value - previous)


def train(
    settings: TrainSettings,
    report: Callable[[Progress], None] = lambda progress: None,
    note: Callable[[str], None] = lambda line: None,
) -> TrainingState:
    """Train until `steps` or `minutes` are over and return the state; its `ema` is the model to export.

    `report` is called after every step, `note` with each line worth reading (what is left out). The
    checkpoint is written every `checkpoint_every_s` and at the end, also after an interrupt.
    Raises TrainingError, TrainingDataError. Threads: one run at a time.
    """
    if settings.checkpoint_path.exists() and not settings.resume:
        raise TrainingError(f"{settings.checkpoint_path}: exists; resume it, or choose another folder")
    state = load_state(settings) if settings.resume else new_state(settings)
    stream = ItemStream(
        load_sources(settings),
        settings.cache_dir,
        settings.seed,
        settings.item_hops * settings.config.hop_frames,
        settings.pool,
    )
    for line in stream.left_out:
        note(f"left out: {line}")
    try:
        _run(state, stream, settings, report)
    finally:
        save_state(state, settings)
    return state


def _run(
    state: TrainingState, stream: ItemStream, settings: TrainSettings, report: Callable[[Progress], None]
) -> None:
    began, first = time.monotonic(), state.step
    saved_at = began
    while state.step < settings.steps and time.monotonic() - began < 60.0 * settings.minutes:
        start = state.step * settings.batch
        loss = train_step(state, stream.batch(range(start, start + settings.batch)), settings)
        state.smoothed_loss = _smoothed(state.smoothed_loss, loss)
        now = time.monotonic()
        if now - saved_at > settings.checkpoint_every_s:
            save_state(state, settings)
            saved_at = now
        by_steps = (now - began) / (state.step - first) * (settings.steps - state.step)
        report(
            Progress(
                state.step,
                settings.steps,
                state.smoothed_loss,
                min(by_steps, 60.0 * settings.minutes + began - now),
            )
        )
