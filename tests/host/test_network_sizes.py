"""The contest of network shapes: each trains as it would alone, and a run goes on where one ended."""

import dataclasses

import pytest
import torch

from benchmarks import network_sizes
from benchmarks.network_sizes import before, compete, starting, with_hop_times, write
from benchmarks.network_sizes_pages import as_markdown
from benchmarks.resized import resized
from host.errors import UserError
from model.config import CausalConfig
from model.training.distributed import Ranks
from model.training.state import load_state, save_state
from model.training.train import Validation, train
from tests.model.builders import SMALL_LIVE, random_model
from tests.model.small_training import assert_same_weights, settings

ALONE = Ranks(0, 1, "cpu")
SHAPES = {
    "first": SMALL_LIVE,
    "shallower": dataclasses.replace(SMALL_LIVE, depth=1),
    "deeper": dataclasses.replace(SMALL_LIVE, depth=3),
}


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch):
    monkeypatch.setattr(network_sizes, "load_model", lambda _name: (random_model(), None))
    monkeypatch.setattr(network_sizes, "SHAPES", SHAPES)
    monkeypatch.setattr(network_sizes, "VALIDATION_ITEMS", 2)
    monkeypatch.setattr(network_sizes, "TIMED_HOPS", 3)


def run(folder, steps, validate_every=2):
    base = settings(folder, steps=steps, decay_steps=100)
    compete(base, validate_every, before(folder), ALONE)
    return base


def state_of(folder, number, config: CausalConfig):
    return load_state(settings(folder / f"shape{number}", steps=9, config=config))


def test_every_shape_trains_as_it_would_alone(tmp_path) -> None:
    base = run(tmp_path / "all", 3)
    found = before(tmp_path / "all")["shapes"]
    assert [facts["name"] for facts in found] == list(SHAPES)
    judge = Validation(dataclasses.replace(base, validation_items=network_sizes.VALIDATION_ITEMS))
    for number, config in enumerate(SHAPES.values()):
        own = dataclasses.replace(base, out_dir=tmp_path / str(number), config=config)
        state = starting(own)
        expected = resized(random_model(), config).state_dict()
        for name, weight in expected.items():
            assert torch.equal(state.model.state_dict()[name], weight), name
        assert found[number]["losses"]["0"] == pytest.approx(judge.loss(state.ema), rel=1e-5)
        save_state(state, own)
        alone = train(dataclasses.replace(own, resume=True))
        assert_same_weights(state_of(base.out_dir, number, config), alone)
        assert found[number]["losses"]["3"] == pytest.approx(judge.loss(alone.ema), rel=1e-5)
        assert found[number]["parameters"] == sum(p.numel() for p in alone.model.parameters())


def test_a_run_goes_on_where_one_ended(tmp_path) -> None:
    run(tmp_path / "once", 4)
    run(tmp_path / "twice", 2)
    run(tmp_path / "twice", 4)
    assert before(tmp_path / "once") == before(tmp_path / "twice")
    assert list(before(tmp_path / "once")["shapes"][0]["losses"]) == ["0", "2", "4"]
    for number, config in enumerate(SHAPES.values()):
        states = (state_of(tmp_path / name, number, config) for name in ("once", "twice"))
        assert_same_weights(*states)


def test_times_of_hops_stand_beside_the_losses(tmp_path) -> None:
    run(tmp_path, 1)
    found = with_hop_times(before(tmp_path))
    write(found, tmp_path)
    assert all(facts["hop_ms"] > 0 for facts in found["shapes"])
    assert before(tmp_path) == found
    page = as_markdown(found).splitlines()
    assert page[0] == "| shape | weights | time of a hop | loss at 0 | loss at 1 |"
    assert page[2].split(" | ")[2] == "1.00"
    assert (tmp_path / "network_sizes.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_trained_has_no_times(tmp_path) -> None:
    with pytest.raises(UserError, match="run without --loads first"):
        with_hop_times(before(tmp_path))
