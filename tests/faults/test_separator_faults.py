"""The separator process fails in every way it can; the sound fades to the fallback and comes back.

One stem of the signature separator is soloed, so half of the input is heard, and the fallback has a gain of
its own. That the right gain is heard again at the same frames is what proves the latency.
"""

from pathlib import Path

import numpy as np
import pytest

from host import supervisor
from tests.faults.rig import NAN_HOPS, RATE_HZ, Run, make_faulty
from tests.live.hearing import gains_heard, largest_step
from tests.live.live_session import HALF, soft_ended_tone

DRY, SILENCE = 1.0, 0.0
FADE_FRAMES = 441
RESTARTED = ["starting", "running", "restarting", "starting", "running", "stopping", "stopped"]
UNDISTURBED = ["starting", "running", "stopping", "stopped"]


def run_with(
    fault: str, fallback: str, seconds: float, folder: Path, patch: pytest.MonkeyPatch
) -> tuple[Run, list[float]]:
    """The run, and the gains that were heard; what must hold after every fault is asserted here."""
    make_faulty(patch, folder, fault)
    played = soft_ended_tone(RATE_HZ, seconds)
    run = Run(played, fallback)
    assert np.isfinite(run.heard).all() and np.abs(run.heard).max() <= 1.0
    # A fade moves by at most the distance between stem and fallback, and the signal itself moves on.
    assert largest_step(run.heard) <= largest_step(played) + 1.0 / FADE_FRAMES
    assert run.left_behind() == []
    return run, gains_heard(played, run.heard, (SILENCE, HALF, DRY))


def states(run: Run) -> list[str]:
    return [state for _, state, _ in run.states]


@pytest.mark.parametrize(("fallback", "gain"), [("dry", DRY), ("silence", SILENCE)])
def test_one_that_raises_is_replaced(
    fallback: str, gain: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, heard = run_with("raises", fallback, 6.0, tmp_path, monkeypatch)
    assert heard == [HALF, gain, HALF]
    assert states(run) == RESTARTED
    assert run.states[2][2] == "ended with code 2: the model broke"
    assert run.late_hops > 0


def test_one_that_lost_its_device_says_so_and_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, heard = run_with("device lost", "dry", 9.0, tmp_path, monkeypatch)
    assert heard == [HALF, DRY, HALF]
    assert states(run) == RESTARTED
    assert "cuda is lost to this process (CUDA error: unspecified launch failure)" in run.states[2][2]


def test_one_that_hangs_is_found_out_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HUNG_S", 1.0)
    run, heard = run_with("hangs", "dry", 7.0, tmp_path, monkeypatch)
    assert heard == [HALF, DRY, HALF]
    assert states(run) == RESTARTED
    assert run.states[2][2] == "hung: no heart-beat for 1 s"


def test_one_that_is_late_once_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, heard = run_with("late", "silence", 3.0, tmp_path, monkeypatch)
    assert heard == [HALF, SILENCE, HALF]
    assert states(run) == UNDISTURBED
    assert run.late_hops > 0


def test_hops_with_nan_are_thrown_away_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, heard = run_with("nan", "dry", 3.0, tmp_path, monkeypatch)
    assert heard == [HALF, DRY, HALF]
    assert states(run) == UNDISTURBED
    assert run.invalid_hops == NAN_HOPS and run.late_hops >= NAN_HOPS


def test_one_that_never_comes_back_leaves_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0,))
    run, heard = run_with("gone", "dry", 7.0, tmp_path, monkeypatch)
    assert heard == [HALF, DRY]
    tries = ["starting", "restarting"] * (supervisor.FAILURES_IN_A_ROW - 2) + ["starting", "failed"]
    assert states(run) == ["starting", "running", "restarting", *tries, "stopping", "stopped"]
    assert run.states[-3][2] == "ended while starting: no such weights"
