"""`torchrun`: two processes train as one does on the joined batch, and none outlives another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.training.distributed import Ranks
from model.training.recipe import TrainingError
from model.training.train import refuse, train
from tests.model.small_training import settings

ROOT = Path(__file__).parents[2]
PROGRAM = "tests.model.trains_in_ranks"
STEPS = 5


def launch(processes, folder, **changes):
    """Train in so many processes; what they did."""
    runner = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-m", *runner, PROGRAM, str(folder), json.dumps(changes)]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300)


def weights(folder):
    return torch.load(folder / "training.pt", weights_only=True)


def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    chosen = {"steps": STEPS, "batch": 4}
    train(settings(tmp_path / "1", **chosen))
    run = launch(2, tmp_path / "2", **chosen)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [str(step) for step in range(1, STEPS + 1)]  # one speaks
    one, two = (weights(tmp_path / str(processes)) for processes in (1, 2))
    assert one["step"] == two["step"] == STEPS
    assert two["smoothed_loss"] == pytest.approx(one["smoothed_loss"], rel=1e-5)
    for part in ("model", "ema"):
        for name, weight in one[part].items():
            error = torch.linalg.vector_norm(two[part][name] - weight)
            assert error <= 1e-5 * torch.linalg.vector_norm(weight) + 1e-9, (part, name)


def test_an_error_in_one_process_ends_all(tmp_path):
    run = launch(2, tmp_path, steps=50, fail_rank=1, fail_step=2)
    assert run.returncode != 0
    assert "song.wav: gone" in run.stderr


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="a batch of 3 items cannot be shared by 2 processes"):
        refuse(settings(tmp_path, batch=3), Ranks(0, 2, "cpu"))


def test_half_of_what_torchrun_sets_is_refused(tmp_path, monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="start with torchrun, or unset WORLD_SIZE"):
        train(settings(tmp_path))


def test_shares_are_the_batch():
    shares = [Ranks(rank, 3, "cpu").share(range(12, 18)) for rank in range(3)]
    assert [index for share in shares for index in share] == list(range(12, 18))
