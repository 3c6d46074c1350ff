"""The contest of recipes: all hear the same, one thing differs, and runs add up in one table."""

import dataclasses
import json

import pytest
import torch

from benchmarks import network_sizes, recipes
from benchmarks.network_sizes import starting
from benchmarks.recipes import CONTESTANTS, SHIPPED, as_markdown, earlier, gains, merged, trained, unsplit
from host.errors import UserError
from model.training.distributed import Ranks
from model.training.prefetch import Batch
from model.training.recipe import Recipe
from model.training.state import load_state, save_state
from model.training.step import batch_loss
from model.training.train import train
from tests.model.builders import SMALL_LIVE, random_model
from tests.model.small_training import assert_same_weights, settings

ALONE = Ranks(0, 1, "cpu")


def test_the_own_recipe_trains_as_it_would_alone_and_the_others_otherwise(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(network_sizes, "load_model", lambda _name: (random_model(), None))
    base = settings(tmp_path / "all", steps=2)
    found = trained(base, list(CONTESTANTS), ALONE)
    alone = dataclasses.replace(base, out_dir=tmp_path / "alone")
    save_state(starting(alone), alone)
    expected = train(dataclasses.replace(alone, resume=True))
    states = {name: load_state(recipes.settings_of(base, name)) for name in found}
    own, *others = states.values()
    assert_same_weights(own, expected)
    for other in others:
        assert not torch.equal(other.ema.masks.hidden.weight, own.ema.masks.hidden.weight)
    for name, network in found.items():
        for key, weight in states[name].ema.round_band_weights().state_dict().items():
            assert torch.equal(network.state_dict()[key], weight)


def test_karaoke_does_not_care_which_stem_of_the_rest_it_is() -> None:
    rng = torch.Generator().manual_seed(0)
    stems = 0.1 * torch.randn(2, 4, 2, 8820, generator=rng)
    batch = Batch(stems, torch.tensor([True, True]))
    swapped = Batch(stems[:, [0, 2, 3, 1]], batch.split)
    model = random_model(SMALL_LIVE)
    with torch.no_grad():
        losses = [float(batch_loss(model, unsplit(b), Recipe())) for b in (batch, swapped)]
        usual = float(batch_loss(model, batch, Recipe()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert usual != pytest.approx(losses[0], abs=1e-3)


def row(stem, shipped, **systems):
    values = {SHIPPED: shipped} | {name.replace("_", " "): value for name, value in systems.items()}
    scores = {name: {"si_sdr": value, "sdr": value} for name, value in values.items()}
    return {"set": "real", "song": "a song", "stem": stem} | scores


def test_gains_are_means_over_the_songs_of_a_set_and_runs_add_up() -> None:
    own = gains([row("vocals", 1.0, own_recipe=2.0), row("vocals", 3.0, own_recipe=2.5)], ["own recipe"])
    assert own == {"real songs, vocals": {SHIPPED: 2.0, "own recipe": 0.25}}
    loss = gains([row("vocals", 2.0, published_loss=1.5)], ["published loss"])
    lines = as_markdown(merged(own, loss)).splitlines()
    assert lines[0] == "| songs, stem | as it ships | own recipe | published loss |"
    assert lines[2:] == ["| real songs, vocals | 2.00 | +0.25 | -0.50 |"]


def test_runs_of_other_items_do_not_add_up(tmp_path) -> None:
    (tmp_path / "recipes.json").write_text(json.dumps({"steps": 9, "seed": 1, "gains": {}}))
    assert earlier(tmp_path / "recipes.json", 9, 1)["gains"] == {}
    with pytest.raises(UserError, match="is of 9 steps and seed 1; take these, or another --out"):
        earlier(tmp_path / "recipes.json", 9, 2)
