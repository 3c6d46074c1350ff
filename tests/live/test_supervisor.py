"""Children start, are replaced when they end or hang, and are sent away in order."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from host import supervisor
from host.supervisor import Child, ChildSpec, Lifecycle, Supervisor


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Nursery:
    """Makes children of `bad_child` and keeps the list of what they went through."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.events: list[tuple[str, str]] = []
        self.details: list[str] = []
        self.beat_age_s = 0.0

    def child(self, name: str, behaviour: str) -> Child:
        arguments = (behaviour, str(self.tmp_path / name))
        spec = ChildSpec(name, "tests.live.bad_child", arguments, {}, lambda: self.beat_age_s)
        return Child(spec, self._state, lambda name, message: None)

    def _state(self, name: str, state: Lifecycle, detail: str) -> None:
        self.events.append((name, state.value))
        self.details.append(detail)

    def incarnations(self, name: str) -> int:
        return int((self.tmp_path / name).read_text())


@pytest.fixture
def nursery(tmp_path: Path) -> Nursery:
    return Nursery(tmp_path)


def test_two_children_start_and_leave_in_reverse_order(nursery: Nursery) -> None:
    children = [nursery.child("first", "good"), nursery.child("second", "good")]
    keeper = Supervisor(children)
    keeper.start()
    wait_for(lambda: all(child.state is Lifecycle.RUNNING for child in children))
    keeper.stop()
    begun = [event for event in nursery.events if event[1] == "starting"]
    assert begun == [("first", "starting"), ("second", "starting")]
    assert nursery.events[-4:] == [
        ("second", "stopping"),
        ("second", "stopped"),
        ("first", "stopping"),
        ("first", "stopped"),
    ]
    assert all(child.pid and not _alive(child.pid) for child in children)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_child_that_crashes_is_replaced(nursery: Nursery) -> None:
    child = nursery.child("child", "crash_once")
    keeper = Supervisor([child])
    keeper.start()
    wait_for(lambda: nursery.events.count(("child", "running")) == 2)
    keeper.stop()
    states = [state for _, state in nursery.events]
    assert states == ["starting", "running", "restarting", "starting", "running", "stopping", "stopped"]
    assert "RuntimeError: the first one breaks" in nursery.details[2]
    assert nursery.incarnations("child") == 2


def test_a_killed_child_is_replaced(nursery: Nursery) -> None:
    child = nursery.child("child", "good")
    keeper = Supervisor([child])
    keeper.start()
    wait_for(lambda: child.state is Lifecycle.RUNNING)
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: nursery.events.count(("child", "running")) == 2)
    keeper.stop()
    assert "ended with code -9" in nursery.details[2]


def test_a_child_whose_heart_stands_still_is_replaced(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "HUNG_S", 0.2)
    child = nursery.child("child", "stubborn")
    keeper = Supervisor([child])
    keeper.start()
    wait_for(lambda: child.state is Lifecycle.RUNNING)
    nursery.beat_age_s = 1.0
    wait_for(lambda: child.state is Lifecycle.RESTARTING)
    nursery.beat_age_s = 0.0
    wait_for(lambda: child.state is Lifecycle.RUNNING)
    monkeypatch.setattr(supervisor, "LEAVE_S", 0.1)
    keeper.stop()
    assert any("hung" in detail for detail in nursery.details)


def test_a_heart_that_beats_between_long_hops_is_not_taken_for_dead() -> None:
    spec = ChildSpec("child", "module", (), {}, lambda: 0.0)
    assert (spec.hung_s, replace(spec, hop_s=5.0).hung_s) == (2.0, 12.0)


def test_a_child_that_never_gets_ready_is_given_up(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0,))
    child = nursery.child("child", "error")
    keeper = Supervisor([child])
    keeper.start()
    wait_for(lambda: child.state is Lifecycle.FAILED)
    keeper.stop()
    assert nursery.incarnations("child") == supervisor.FAILURES_IN_A_ROW
    assert child.reason == "no such model"
    assert not child.wait_ready(0.1)


@pytest.mark.parametrize(("steady_s", "expected"), [(60.0, [0.0, 0.01, 0.02, 0.02]), (0.0, [0.0] * 4)])
def test_the_wait_grows_until_a_child_has_lived_for_a_while(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch, steady_s: float, expected: list[float]
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0, 0.01, 0.02))
    monkeypatch.setattr(supervisor, "STEADY_S", steady_s)
    child = nursery.child("child", "crash_when_ready")
    waits = []

    def poll_and_look() -> None:
        if child.state is Lifecycle.RESTARTING and len(waits) < nursery.incarnations("child"):
            waits.append(child.backoff_s)

    keeper = Supervisor([child], also=poll_and_look)
    keeper.start()
    wait_for(lambda: len(waits) >= len(expected))
    keeper.stop()
    assert waits[: len(expected)] == expected
    states = [state for _, state in nursery.events]
    assert states[:8] == ["starting", "running", "restarting"] * 2 + ["starting", "running"]
    assert Lifecycle.FAILED.value not in states


def test_a_child_that_takes_too_long_is_started_anew(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_S", 0.3)
    child = nursery.child("child", "never_ready")
    keeper = Supervisor([child])
    keeper.start()
    wait_for(lambda: Lifecycle.RESTARTING.value in [state for _, state in nursery.events])
    monkeypatch.setattr(supervisor, "LEAVE_S", 0.1)
    keeper.stop()
    assert any("was not ready" in detail for detail in nursery.details)


def test_a_stubborn_child_is_made_to_leave(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LEAVE_S", 0.1)
    child = nursery.child("child", "stubborn")
    keeper = Supervisor([child])
    keeper.start()
    wait_for(lambda: child.state is Lifecycle.RUNNING)
    pid = child.pid
    keeper.stop()
    assert not _alive(pid)
    assert nursery.events[-1] == ("child", "stopped")


def test_nobody_waits_for_a_killed_child_that_a_driver_holds_on_to(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "KILLED_S", 0.0)
    child = nursery.child("child", "stubborn")
    child.start()
    held = child._process
    with monkeypatch.context() as patch:
        patch.setattr(held, "kill", lambda: None)
        child._ended("hung")
    assert nursery.events[-1] == ("child", "restarting")
    wait_for(lambda: child.poll() or child.state is Lifecycle.RUNNING)
    assert child.pid != held.pid
    child.stop()
    held.kill()
    held.wait()
