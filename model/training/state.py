"""What a resumed run needs, and the file it lies in."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Set
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model.causal import CausalBSRoformer
from model.checkpoint import ModelCard, save_checkpoint
from model.config import CausalConfig
from model.files import whole
from model.header import CAUSAL_FORMAT
from model.training.recipe import Recipe, TrainingError
from model.training.regularisation import add_dropout, lower_precision
from model.training.settings import TrainSettings

_KEYS = {"config", "seed", "batch", "model", "ema", "optimizer", "step", "smoothed_loss"}
_ILLEGIBLE = (
    RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError
)  # fmt: skip
"""What reading a file raises that is no checkpoint, or not one of this version."""


@dataclass
class TrainingState:
    """Everything that a resumed run needs. The items and their order follow from `step` alone."""

    model: CausalBSRoformer
    ema: CausalBSRoformer
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    step: int = 0
    smoothed_loss: float = math.nan
    recordings: str = ""
    """What it was trained on so far, as `Sources.told` says it; empty in older files."""


def new_state(settings: TrainSettings) -> TrainingState:
    """Fresh weights from the seed."""
    torch.manual_seed(settings.seed)
    recipe, device = settings.recipe, torch.device(settings.device)
    model = CausalBSRoformer(settings.config).to(device)
    ema = CausalBSRoformer(settings.config).to(device).requires_grad_(False)
    ema.load_state_dict(model.state_dict())
    add_dropout(model, recipe.dropout)
    lower_precision(model, device.type, recipe.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    return TrainingState(model, ema, _optimizer(model, recipe), scaler)


def _optimizer(model: CausalBSRoformer, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; weight decay for matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def save_state(state: TrainingState, settings: TrainSettings) -> None:
    """Write the checkpoint and the EMA weights, rounded as they run live, each whole or not at all.

    Raises TrainingError, CheckpointError where they cannot be written; the earlier ones stay.
    """
    settings.out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with whole(settings.checkpoint_path) as part:
            torch.save(_kept(state, settings), part)
    except (OSError, RuntimeError) as error:  # a full disk is the latter to torch
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"cannot write {settings.checkpoint_path} ({reason}); is there room on the disk?"
        ) from None
    finished = deepcopy(state.ema).round_band_weights()
    save_checkpoint(settings.weights_path, finished, _card(state, settings))


def _kept(state: TrainingState, settings: TrainSettings) -> dict[str, Any]:
    return {
        "format": CAUSAL_FORMAT,
        "config": settings.config.to_dict(),
        "seed": settings.seed,
        "batch": settings.recipe.batch,
        "recipe": asdict(settings.recipe),
        "mix": asdict(settings.mix),
        "data": _data(settings),
        "validate_every": settings.validate_every,
        "model": state.model.state_dict(),
        "ema": state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "step": state.step,
        "smoothed_loss": state.smoothed_loss,
        "recordings": state.recordings,
    }


def _data(settings: TrainSettings) -> dict[str, str | None]:
    """Where the recordings are and what becomes of bad ones, in plain text."""
    folders = {"audio_dir": settings.audio_dir, "songs_dir": settings.songs_dir}
    named = {name: None if path is None else str(path.resolve()) for name, path in folders.items()}
    return named | {"bad_data": settings.bad_data}


def _card(state: TrainingState, settings: TrainSettings) -> ModelCard:
    items = state.step * settings.recipe.batch
    hours = items * settings.item_frames / settings.config.sample_rate_hz / 3600
    text = f"Trained with `stembridge train` for {state.step} steps on {hours:.1f} hours of mixed items."
    return ModelCard("NOASSERTION", "stembridge train", text)


def resumed(settings: TrainSettings) -> TrainSettings:
    """The settings with configuration, seed, recipe, mix and data of the checkpoint in `out_dir`.

    Raises TrainingError as `load_state`.
    """
    saved = _read(settings.checkpoint_path)
    data = saved.get("data", {})
    with _legible(settings.checkpoint_path):
        return replace(
            settings,
            config=_config(saved),
            seed=saved["seed"],
            recipe=replace(settings.recipe, **saved.get("recipe", {}) | {"batch": saved["batch"]}),
            mix=replace(settings.mix, **saved.get("mix", {})),
            audio_dir=_folder(data.get("audio_dir")),
            songs_dir=_folder(data.get("songs_dir")),
            bad_data=data.get("bad_data", settings.bad_data),
            validate_every=saved.get("validate_every", settings.validate_every),
        )


def changes(settings: TrainSettings) -> list[str]:
    """Lines for what a resumed run does otherwise than its checkpoint was trained. Errors as `load_state`."""
    before = resumed(settings)
    pairs = [
        (name, getattr(old, name), getattr(new, name))
        for old, new in ((before.recipe, settings.recipe), (before.mix, settings.mix))
        for name in asdict(new)
    ]
    data = _data(settings)
    pairs += [(name, value, data[name]) for name, value in _data(before).items()]
    return [f"resumed with another {name}: {new}, so far {old}" for name, old, new in pairs if old != new]


def _folder(told: str | None) -> Path | None:
    return Path(told) if told else None


def load_state(settings: TrainSettings) -> TrainingState:
    """The state of the checkpoint in `out_dir`. Raises TrainingError if missing or of another run."""
    saved = _read(settings.checkpoint_path)
    wanted = {"config": settings.config, "seed": settings.seed, "batch": settings.recipe.batch}
    for name, found in {"config": _config(saved), "seed": saved["seed"], "batch": saved["batch"]}.items():
        if found != wanted[name]:
            raise TrainingError(
                f"{settings.checkpoint_path}: was trained with another {name}"
                f" ({_difference(found, wanted[name])});"
                " resume it with that one, or train in another folder"
            )
    state = new_state(settings)
    with _legible(settings.checkpoint_path):
        _fill(state, saved)
    if state.step > settings.recipe.steps:
        raise TrainingError(
            f"{settings.checkpoint_path}: is at step {state.step} already; give more steps than"
            f" {settings.recipe.steps}"
        )
    return state


def _fill(state: TrainingState, saved: dict[str, Any]) -> None:
    state.model.load_state_dict(saved["model"])
    state.ema.load_state_dict(saved["ema"])
    state.optimizer.load_state_dict(saved["optimizer"])
    if saved.get("scaler"):  # empty, or absent in older files, where the run needs none
        state.scaler.load_state_dict(saved["scaler"])
    state.step, state.smoothed_loss = int(saved["step"]), float(saved["smoothed_loss"])
    state.recordings = str(saved.get("recordings", ""))


def _difference(found: Any, wanted: Any) -> str:
    """What the checkpoint has; of configurations, where they differ."""
    if not isinstance(found, CausalConfig):
        return str(found)
    asked, told = wanted.to_dict(), found.to_dict()
    return ", ".join(f"{name} {value}" for name, value in told.items() if value != asked[name])


def _config(saved: dict[str, Any]) -> CausalConfig:
    return CausalConfig.from_dict(saved["config"])  # settings that an older file lacks have their defaults


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrainingError(f"{path}: nothing to resume; start without --resume")
    return read_saved(path, _KEYS)


def read_saved(path: Path, keys: Set[str]) -> dict[str, Any]:
    """What a training's checkpoint holds. Raises TrainingError where it is none that has these keys."""
    with _legible(path):
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not saved.keys() >= keys:
            raise KeyError(*(keys - saved.keys()))
        if saved.get("format") != CAUSAL_FORMAT:
            raise ValueError("weights of another meaning")
    return saved


@contextmanager
def _legible(path: Path) -> Iterator[None]:
    """Turn what a damaged checkpoint, or one of another version, raises into a TrainingError."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror or error}); try again") from error
    except _ILLEGIBLE as error:
        raise TrainingError(
            f"{path}: not a training checkpoint of this version; give another, or delete it and start again"
        ) from error
