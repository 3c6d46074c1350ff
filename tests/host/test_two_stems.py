"""The contest of losses: both networks hear the same, and only one is told of drums, bass and the rest."""

import dataclasses

import pytest
import torch

from benchmarks import network_sizes
from benchmarks.network_sizes import starting
from benchmarks.two_stems import FOUR, SHIPPED, TWO, as_markdown, gains, trained, unsplit
from model.training.distributed import Ranks
from model.training.prefetch import Batch
from model.training.recipe import Recipe
from model.training.state import load_state, save_state
from model.training.step import batch_loss
from model.training.train import train
from tests.model.builders import SMALL_LIVE, random_model
from tests.model.small_training import assert_same_weights, settings

ALONE = Ranks(0, 1, "cpu")


def test_one_trains_as_it_would_alone_and_the_other_otherwise(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(network_sizes, "load_model", lambda _name: (random_model(), None))
    base = settings(tmp_path / "both", steps=2)
    found = trained(base, ALONE)
    alone = dataclasses.replace(base, out_dir=tmp_path / "alone")
    save_state(starting(alone), alone)
    expected = train(dataclasses.replace(alone, resume=True))
    four, two = (load_state(dataclasses.replace(base, out_dir=base.out_dir / place)) for place in ("0", "1"))
    assert_same_weights(four, expected)
    assert not torch.equal(two.ema.masks.hidden.weight, four.ema.masks.hidden.weight)
    assert list(found) == [FOUR, TWO]
    for network, state in zip(found.values(), (four, two), strict=True):
        for name, weight in state.ema.round_band_weights().state_dict().items():
            assert torch.equal(network.state_dict()[name], weight)


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


def test_gains_are_means_over_the_songs_of_a_set() -> None:
    def row(stem, *values):
        scores = ({"si_sdr": value} for value in values)
        return {"set": "real", "stem": stem} | dict(zip((SHIPPED, FOUR, TWO), scores, strict=True))

    found = gains([row("vocals", 1.0, 2.0, 1.0), row("bass", 5.0, 5.0, 4.0), row("vocals", 3.0, 2.5, 4.0)])
    assert found == [
        {"set": "real", "stem": "vocals", "songs": 2, SHIPPED: 2.0, FOUR: 0.25, TWO: 0.5},
        {"set": "real", "stem": "bass", "songs": 1, SHIPPED: 5.0, FOUR: 0.0, TWO: -1.0},
    ]
    assert as_markdown(found).splitlines()[2] == "| real, 2 | vocals | 2.00 | +0.25 | +0.50 |"
