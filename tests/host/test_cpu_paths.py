"""The ways of the CPU benchmark: each gives the same stems; one that does not is a line."""

import dataclasses
import sys

import pytest
import torch

from benchmarks.cpu_paths import TOLERANCE, WAYS, difference, measure, row
from model.config import CausalConfig
from tests.model.builders import SMALL_LIVE, random_model

LONG_PAST = dataclasses.replace(SMALL_LIVE, past_frames=32)
PLAIN = {name: way for name, way in WAYS.items() if name not in ("torch.compile", "ONNX Runtime")}


@pytest.mark.parametrize("config", [LONG_PAST, dataclasses.replace(LONG_PAST, look_ahead_frames=2)])
@pytest.mark.parametrize("way", PLAIN)
@torch.inference_mode()
def test_every_way_gives_the_stems_of_the_whole_signal(way: str, config: CausalConfig) -> None:
    network = random_model(config)
    assert difference(WAYS[way](network), network) < TOLERANCE


def test_the_shipped_way_comes_first_and_the_others_are_beside_it() -> None:
    first, second = measure(random_model(LONG_PAST), ["whole context", "compiled (shipped)"], 0.01)
    assert (first.name, second.name) == ("compiled (shipped)", "whole context")
    assert second.figures["times_ours"] == second.figures["load_p50"] / first.figures["load_p50"]


@torch.inference_mode()
def test_what_gives_other_stems_is_not_timed() -> None:
    wrong = row("wrong", lambda network: lambda audio: audio.new_ones(4, *audio.shape), random_model(), 0.01)
    assert wrong.trouble.startswith("differs by")
    assert not wrong.figures


def test_what_does_not_work_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(network):
        raise RuntimeError("no such\noperator")

    assert row("failing", fails, random_model(), 0.01).trouble == "no such operator"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = row("ONNX Runtime", WAYS["ONNX Runtime"], random_model(), 0.01)
    assert found.trouble.startswith("not installed: pip install onnx")
