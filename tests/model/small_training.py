"""Tiny trainings that several tests share."""

import dataclasses

import numpy as np
import torch

from model.training.dataset import Pool
from model.training.prefetch import Batch
from model.training.recipe import Recipe
from model.training.settings import TrainSettings
from tests.model.builders import SMALL_LIVE

RECIPE = Recipe(batch=2, item_s=0.31, steps=6, warmup_steps=2)
RECIPE_FIELDS = {field.name for field in dataclasses.fields(Recipe)}


def settings(folder, **changes):
    """A tiny run; `changes` are of the settings or of their recipe."""
    recipe = dataclasses.replace(RECIPE, **{n: changes.pop(n) for n in RECIPE_FIELDS & changes.keys()})
    small = {"config": SMALL_LIVE, "pool": Pool(songs=2, seconds=1.0), "validate_every": 0}
    return TrainSettings(folder, recipe=recipe, **small | changes)


def one_batch(frames=31 * 441):
    """Four pairs of tones that no two stems share."""
    t = np.arange(frames) / 44_100
    hz = np.array([[700.0, 710.0], [6000.0, 6100.0], [60.0, 61.0], [2500.0, 2400.0]])
    stems = (0.1 * np.sin(2 * np.pi * hz[..., None] * t)).astype(np.float32)[None]
    return Batch(torch.from_numpy(stems), torch.tensor([True]))


def assert_same_weights(state, other):
    """Weights and averages of two states are equal to the bit."""
    for mine, theirs in ((state.model, other.model), (state.ema, other.ema)):
        for key, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key]), key
