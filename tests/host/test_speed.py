"""What the doctor measures of the profiles, and what it advises."""

from pathlib import Path

import numpy as np
import pytest

from host import speed
from host.hop_times import summary, time_hops
from host.speed import ProfileSpeed, findings, measure, recommend
from model import catalogue
from model.catalogue import builtin_models
from model.checkpoint import ModelCard, save_checkpoint
from model.profiles import DEFAULT_PROFILE
from streaming.separator import SignatureSeparator
from tests.model.builders import random_model


def stage(p50=0.3, p99=0.5):
    return ProfileSpeed("stage", 13.3, 6.67, p50, p99)


def live(p50=0.3, p99=0.5):
    return ProfileSpeed("live", 20.0, 10.0, p50, p99)


def studio(p50=0.3, p99=0.5):
    return ProfileSpeed("studio", 100.0, 10.0, p50, p99)


@pytest.mark.parametrize(
    ("speeds", "profile", "options", "word"),
    [
        ([live()], "live", "", "0.50"),
        ([studio(), stage(), live()], "live", "", "stage (13 ms) fits as well"),
        ([stage(p99=0.7), live(p99=0.699), studio()], "live", "", "0.70"),
        ([stage(), live(p99=0.7), studio()], "live", "--allowance-ms 20", "keeps up"),
        ([live(p99=1.6)], "live", "--allowance-ms 35", "1.60"),
        ([live(p50=0.7, p99=0.9), studio(p50=0.4)], "studio", "", "too slow"),
        ([live(0.7, 0.9), studio(0.6, 1.2)], "studio", "--allowance-ms 25", "too slow"),
        ([stage(), live(0.9, 1.5)], "stage", "", "too slow"),
        ([stage(0.9, 1.5), live(0.9, 1.5), studio(0.9, 1.5)], None, "", "separate"),
        ([stage()], "stage", "", "0.50"),
    ],
)
def test_advice_follows_from_the_loads(speeds, profile, options, word) -> None:
    advice = recommend(speeds)
    assert (advice.profile, advice.options) == (profile, options)
    assert word in advice.why


def test_loads_are_compute_time_over_hop_duration() -> None:
    figures = summary(np.linspace(0.0, 0.01, 101), 0.01)
    assert figures["load_p50"] == pytest.approx(0.5)
    assert figures["p99_ms"] == pytest.approx(9.9)
    assert figures["load_max"] == pytest.approx(1.0)


def test_every_hop_is_separated_once() -> None:
    separator = SignatureSeparator(44100, hop_frames=441, latency_frames=882)
    separator.warm_up()
    assert (time_hops(separator, 7, paced=False) > 0).all()
    stems = np.empty((4, 2, 441), np.float32)
    separator.separate(np.zeros((2, 441), np.float32), stems)
    assert stems[3, 0, 0] == pytest.approx(8 / 2048)  # the number of the hop


def test_installed_profiles_are_measured_and_advised(monkeypatch, tmp_path) -> None:
    save_checkpoint(tmp_path / "builtin-live.safetensors", random_model(), ModelCard("CC0-1.0", "test", ""))
    (tmp_path / "builtin-stage.safetensors").write_bytes(b"broken")
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    monkeypatch.setattr(speed, "MEASURED_S", 0.1)
    rows = {row.name: row for row in findings()}
    assert list(rows) == ["speed: live", "speed: stage", "recommended profile"]
    assert rows["speed: live"].figures["latency_ms"] == 20.0
    assert 0 < rows["speed: live"].figures["load_p50"] <= rows["speed: live"].figures["load_p99"]
    assert not rows["speed: stage"].ok
    assert rows["speed: stage"].detail.count("\n") == 0
    assert set(rows["recommended profile"].figures) == {"profile", "options", "why"}


def test_without_weights_nothing_is_said(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    assert findings() == []


def test_the_default_profile_is_installed() -> None:
    assert DEFAULT_PROFILE in builtin_models()
    assert all(isinstance(path, Path) and path.is_file() for path in builtin_models().values())


def test_paced_hops_are_measured_for_the_time_that_was_set(monkeypatch) -> None:
    counted = []

    def times(separator, hops, paced):
        counted.append((separator.hop_frames, hops, paced))
        return np.full(hops, 0.004)

    monkeypatch.setattr("host.hop_times.time_hops", times)
    monkeypatch.setattr(speed, "MEASURED_S", 3.0)
    found = measure("live", builtin_models()["live"])
    assert counted == [(441, 300, True)]
    assert (found.load_p50, found.load_p99) == (0.4, 0.4)
