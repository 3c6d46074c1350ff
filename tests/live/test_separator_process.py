"""What the separator's process says before it is ready."""

from __future__ import annotations

import json
import time
import warnings

import pytest

from host.live import event_text
from host.separator_process import warm_up
from model.compromise import Compromise
from streaming.separator import Audio, SignatureSeparator


class Small(SignatureSeparator):
    """Takes a smaller way, while a library warns of something else."""

    def warm_up(self) -> None:
        warnings.warn("too little memory: taking half", Compromise, stacklevel=1)
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)


class Slow(SignatureSeparator):
    """Takes longer than anybody waits."""

    def separate(self, mixture: Audio, stems_out: Audio) -> None:
        time.sleep(1.1)


def test_what_it_did_without_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    warm_up(Small())
    said = json.loads(capsys.readouterr().out)
    assert said == {"event": "compromise", "reason": "too little memory: taking half"}
    assert event_text("compromise", {"name": "separator", **said}) == "Note: too little memory: taking half."


def test_what_is_far_too_slow_is_refused_in_one_line() -> None:
    with pytest.raises(RuntimeError, match=r"^A hop of 10 ms takes 1\.1 s to compute here: take .*files\.$"):
        warm_up(Slow())


def test_a_hop_that_takes_no_longer_than_it_lasts_is_not_too_slow() -> None:
    slow = Slow()
    slow.hop_frames = slow.window_frames = 2 * slow.sample_rate_hz
    warm_up(slow)
