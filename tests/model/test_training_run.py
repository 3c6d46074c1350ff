"""The training loop: it learns, resumes to the bit, and refuses what it cannot do."""

import dataclasses

import numpy as np
import pytest
import torch

from model.checkpoint import load_checkpoint
from model.training.dataset import Batch, Pool
from model.training.evaluate import as_markdown, evaluate, held_out_songs
from model.training.losses import CEILING, LOSSES, SILENCE, separation_loss, snr_loss
from model.training.train import (
    TrainingError,
    TrainSettings,
    learning_rate_at,
    load_state,
    new_state,
    save_state,
    train,
    train_step,
)
from tests.model.builders import SMALL_LIVE


def settings(folder, **changes):
    small = TrainSettings(
        out_dir=folder,
        config=SMALL_LIVE,
        batch=2,
        item_hops=31,
        steps=6,
        warmup_steps=2,
        learning_rate=2e-3,
        pool=Pool(songs=2, seconds=1.0),
    )
    return dataclasses.replace(small, **changes)


@pytest.fixture
def folder(tmp_path, tmp_path_factory):
    """An output folder whose rendered songs are shared between tests."""
    shared = tmp_path_factory.getbasetemp() / "songs"
    shared.mkdir(exist_ok=True)
    (tmp_path / "cache").symlink_to(shared)
    return tmp_path


def one_batch(frames=31 * 441):
    t = np.arange(frames) / 44_100
    hz = np.array([[700.0, 710.0], [6000.0, 6100.0], [60.0, 61.0], [2500.0, 2400.0]])
    stems = (0.1 * np.sin(2 * np.pi * hz[..., None] * t)).astype(np.float32)[None]
    return Batch(stems.sum(axis=1), stems, np.array([True]))


def test_overfits_one_batch(tmp_path):
    ready = settings(tmp_path, steps=120, warmup_steps=5, learning_rate=5e-3)
    state, batch = new_state(ready), one_batch()
    losses = [train_step(state, batch, ready) for _ in range(60)]
    assert min(losses[-5:]) < losses[0] - 6.0  # dB


def test_resumed_run_equals_an_uninterrupted_one_to_the_bit(folder, tmp_path_factory):
    whole = train(settings(folder))
    parts = settings(tmp_path_factory.mktemp("parts"))
    parts.cache_dir.symlink_to(folder / "cache")
    train(dataclasses.replace(parts, minutes=0.0))
    interrupted = load_state(parts)
    assert interrupted.step == 0

    def stop_at_three(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(parts, resume=True), stop_at_three)
    resumed = train(dataclasses.replace(parts, resume=True))
    assert whole.step == resumed.step == 6
    for mine, theirs in ((whole.model, resumed.model), (whole.ema, resumed.ema)):
        for key, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key]), key


def test_training_leaves_weights_that_load(folder):
    state = train(settings(folder, steps=1))
    model, card = load_checkpoint(settings(folder).weights_path)
    assert "1 steps" in card.text
    assert torch.equal(
        model.state_dict()["features.levels.weight"], state.ema.state_dict()["features.levels.weight"]
    )


def test_progress_counts_up_to_the_end(folder):
    seen = []
    train(settings(folder, steps=3), seen.append)
    assert [(p.step, p.steps) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(p.loss > 0 and p.eta_s >= 0 for p in seen)


def test_an_existing_training_is_not_overwritten(folder):
    train(settings(folder, steps=1))
    with pytest.raises(TrainingError, match="exists; resume it"):
        train(settings(folder, steps=1))


def test_nothing_to_resume(tmp_path):
    with pytest.raises(TrainingError, match="nothing to resume"):
        train(settings(tmp_path, resume=True))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"batch": 3}, {"config": dataclasses.replace(SMALL_LIVE, depth=1)}]
)
def test_resume_refuses_another_run(tmp_path, change):
    save_state(new_state(settings(tmp_path)), settings(tmp_path))
    with pytest.raises(TrainingError, match="trained with another"):
        load_state(settings(tmp_path, **change))


def test_broken_checkpoint_is_refused(tmp_path):
    settings(tmp_path).checkpoint_path.write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="not a training checkpoint"):
        load_state(settings(tmp_path))


def test_non_finite_gradient_is_refused(tmp_path):
    state, batch = new_state(settings(tmp_path)), one_batch()
    batch.stems[0, 0, 0, 5] = np.inf
    with pytest.raises(TrainingError, match="not finite"):
        train_step(state, batch, settings(tmp_path))


def test_learning_rate_warms_up_and_falls():
    ready = TrainSettings(out_dir=None, steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate_at(step, ready) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.03


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss_is_least_at_the_truth(name):
    batch = one_batch()
    stems, split = torch.from_numpy(batch.stems), torch.from_numpy(batch.split)
    at_truth, near, far = (
        float(separation_loss(scale * stems, stems, split, LOSSES[name])) for scale in (1.0, 0.9, 0.5)
    )
    assert at_truth < near < far


def test_snr_loss_is_the_ratio_in_db_for_every_level_of_a_stem():
    torch.manual_seed(0)
    stems = torch.randn(1, 4, 2, 4096)
    mixture = stems.sum(1, keepdim=True)
    loss = snr_loss(0.1 * stems, stems, mixture)
    expected = 10 * np.log10(0.01 / (1 + SILENCE * 4) + CEILING)
    assert loss.numpy() == pytest.approx(np.full((1, 4), expected), abs=0.05)
    silent = snr_loss(0.1 * mixture, torch.zeros_like(mixture), mixture)
    assert silent.item() == pytest.approx(10 * np.log10(0.01 / SILENCE + CEILING), abs=1e-3)


def test_score_table_puts_the_oracle_above_the_mixture(tmp_path):
    state = new_state(settings(tmp_path))
    rows = evaluate(state.ema.eval(), held_out_songs(None, tmp_path, seconds=2.0)[:1])
    assert {row["stem"] for row in rows} >= {"drums", "accompaniment"}
    scored = [row for row in rows if row["mixture"] < 30]
    assert all(row["oracle"] > row["mixture"] + 3 for row in scored)
    assert as_markdown(rows).count("\n") == len(rows) + 1
