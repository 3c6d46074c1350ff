"""Trains the built-in model: resumable to the bit, on one process or many, with EMA weights."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from model.causal import CausalBSRoformer
from model.config import WHOLE_SIGNAL
from model.training.dataset import ItemStream
from model.training.distributed import Ranks, ranks_of_run
from model.training.prefetch import Batch, batches
from model.training.recipe import DivergedError, TrainingError, learning_rate_at
from model.training.settings import TrainSettings, training_stream, validation_sources, validation_stream
from model.training.sources import accepted
from model.training.starting import start_from
from model.training.state import TrainingState, changes, load_state, new_state, save_state
from model.training.step import batch_loss, train_step


@dataclass(frozen=True)
class Progress:
    """One report: steps done of all, the loss smoothed over about 50 steps, seconds left (estimated), the
    learning rate of the step, and the validation loss of the EMA weights where it was taken."""

    step: int
    steps: int
    loss: float
    eta_s: float
    learning_rate: float
    validation: float | None = None


Report = Callable[[Progress], None]
Note = Callable[[str], None]


def train(
    settings: TrainSettings, report: Report = lambda progress: None, note: Note = lambda line: None
) -> TrainingState:
    """Train until `steps` or `minutes` are over and return the state; its `ema` is the model to export.

    `report` is called after every step, `note` with each line worth reading (what is left out). The
    checkpoint is written every `checkpoint_every_s` and at the end, also after an interrupt. Started by
    `torchrun`, every process takes its part of each batch, and only the first reports, notes and writes.
    Raises TrainingError, TrainingDataError, CheckpointError. Threads: one run at a time.
    """
    with ranks_of_run(settings.device) as ranks:
        refuse(settings, ranks)
        with held(settings.out_dir) if ranks.leads else nullcontext():
            return _train(replace(settings, device=ranks.device), ranks, report, note)


def _train(settings: TrainSettings, ranks: Ranks, report: Report, note: Note) -> TrainingState:
    state = load_state(settings) if settings.resume else new_state(settings)
    for line in changes(settings) if settings.resume and ranks.leads else []:
        note(line)
    if settings.init is not None:
        said = start_from(state, settings.init)
        if ranks.leads:
            note(said)
    with ranks.leader_first():  # it alone decodes what is not in the cache
        stream = training_stream(settings)
    for line in stream.remarks if ranks.leads else []:
        note(line)
    before, state.recordings = state.recordings, stream.sources.told
    if ranks.leads and before not in ("", state.recordings):
        note(f"resumed with other recordings: {state.recordings}; so far {before}")
    accepted(stream.sources, settings.bad_data)
    for line in validation_remarks(settings) if ranks.leads else []:
        note(line)
    began = state.step
    try:
        _run(state, stream, settings, ranks, report)
    except DivergedError:
        raise  # and the last checkpoint stays
    except BaseException:
        if ranks.leads and state.step > began:
            save_state(state, settings)
        raise
    if ranks.leads:
        save_state(state, settings)
    return state


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a second training out of a folder; a process that dies lets go of it. Raises TrainingError."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "training.lock").acquire(blocking=False)
    except Timeout as error:
        raise TrainingError(f"{folder}: another training writes there; stop it or choose another") from error
    with lock:
        yield


def validation_remarks(settings: TrainSettings) -> list[str]:
    """Lines worth reading about what validation uses; none where there is no validation.

    Raises TrainingDataError as `validation_sources`.
    """
    if not settings.validate_every:
        return []
    return validation_sources(settings).remarks(" of validation")


def refuse(settings: TrainSettings, ranks: Ranks) -> None:
    """Raise TrainingError where a run would destroy another, or cannot be shared by its processes."""
    if settings.resume and settings.init is not None:
        raise TrainingError("--init starts a new training, --resume goes on with one; give one of them")
    if math.isnan(settings.minutes):
        raise TrainingError("minutes must be a number, not nan")
    if settings.checkpoint_path.exists() and not settings.resume:
        raise TrainingError(f"{settings.checkpoint_path}: exists; resume it, or choose another folder")
    if settings.weights_path.exists() and not settings.resume:
        raise TrainingError(f"{settings.weights_path}: exists and would be lost; choose another folder")
    config, longest = settings.config, settings.config.longest_window_frames
    if WHOLE_SIGNAL in config.known_look_aheads and settings.item_frames > longest:
        raise TrainingError(
            f"items of {settings.recipe.item_s:g} s are too long to be seen whole;"
            f" take at most {longest / config.sample_rate_hz:.1f} s"
        )
    ranks.check_batch(settings.recipe.batch)


def _batches(
    stream: ItemStream, settings: TrainSettings, ranks: Ranks, first_step: int
) -> Generator[Batch, None, None]:
    size = settings.recipe.batch
    indices = (ranks.share(range(step * size, (step + 1) * size)) for step in itertools.count(first_step))
    opening = partial(training_stream, settings) if settings.workers else lambda: stream
    return batches(opening, indices, settings.item_frames, settings.workers, settings.device != "cpu")


def _run(
    state: TrainingState, stream: ItemStream, settings: TrainSettings, ranks: Ranks, report: Report
) -> None:
    recipe, saved_at = settings.recipe, time.monotonic()
    clock, validation = _Clock(settings, state.step), Validation(settings)

    def tell() -> None:
        rate, eta_s = learning_rate_at(state.step - 1, recipe), clock.eta_s(state.step)
        validated = validation.loss(state.ema) if validation.due(state.step) else None
        report(Progress(state.step, recipe.steps, state.smoothed_loss, eta_s, rate, validated))

    if ranks.leads and state.step and validation.due(state.step):
        tell()  # once more: an interrupt may have kept it from being taken
    with closing(_batches(stream, settings, ranks, state.step)) as coming:
        while state.step < recipe.steps and not ranks.any(clock.over):
            loss = train_step(state, next(coming).to(settings.device), settings, ranks)
            state.smoothed_loss = _smoothed(state.smoothed_loss, loss)
            if not ranks.leads:
                continue
            if time.monotonic() - saved_at > settings.checkpoint_every_s:
                save_state(state, settings)
                saved_at = time.monotonic()
            tell()


def _smoothed(previous: float, value: float) -> float:
    return value if math.isnan(previous) else previous + 0.02 * (value - previous)


class _Clock:
    """When a run is over by time, and how long it still takes."""

    def __init__(self, settings: TrainSettings, first_step: int) -> None:
        self._steps, self._first_step = settings.recipe.steps, first_step
        self._began = time.monotonic()
        self._ends = self._began + 60.0 * settings.minutes

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._ends

    def eta_s(self, step: int) -> float:
        """Seconds left at the pace so far; before a step is done, as if one were."""
        now = time.monotonic()
        by_steps = (now - self._began) / max(1, step - self._first_step) * (self._steps - step)
        return max(0.0, min(by_steps, self._ends - now))


class Validation:
    """The loss on the same few items every time, at the configuration's own look-ahead. They are made when
    they are first needed."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self._batches: list[Batch] = []

    def due(self, step: int) -> bool:
        """Whether it is taken after this step: every so often, and after the last one."""
        every = self._settings.validate_every
        return every > 0 and (step % every == 0 or step == self._settings.recipe.steps)

    @torch.no_grad()
    def loss(self, model: CausalBSRoformer) -> float:
        """Mean loss of a network, in FP32. Threads: one at a time."""
        self._batches = self._batches or self._made()
        losses = [
            batch_loss(model, b.to(self._settings.device), self._settings.recipe) for b in self._batches
        ]
        return float(torch.stack(losses).mean())

    def _made(self) -> list[Batch]:
        settings = self._settings
        indices = (range(index, index + 1) for index in range(settings.validation_items))
        opening = partial(validation_stream, settings)
        return list(batches(opening, indices, settings.item_frames, settings.workers))
