"""`stembridge demo`: seconds of the real thing, with the test separator and much time to compute in."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from host import demo as demo_module
from host.app import StartError
from host.audio_files import read_audio
from host.demo import demo, load_song
from host.render import compile_engine
from host.settings import EngineSettings
from host.take import Performance
from streaming.framing import ms_to_frames
from streaming.health import EPOCH, SILENT
from streaming.latency import buffering_frames

ALLOWANCE_MS = 400  # the machine may be busy; lateness is not what is tested here
SECONDS = 6  # the voice sets in after 5
KEYS = {
    "latency_frames",
    "latency_ms",
    "hops",
    "late_hops",
    "load_p50",
    "load_p99",
    "load_max",
    "xruns",
    "null_residual_db",
    "si_sdr_db",
    "si_sdr_mixture_db",
}


def run(*arguments):
    fixed = ["--model", "signature", "--allowance-ms", ALLOWANCE_MS, "--json"]
    return CliRunner().invoke(demo, [str(argument) for argument in (*fixed, *arguments)])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def measures(out):
    result = run("--out", out, "--seconds", SECONDS)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_one_object_says_everything(measures) -> None:
    assert measures.keys() >= KEYS
    assert measures["late_hops"] == measures["xruns"] == 0
    assert measures["hops"] >= SECONDS * 100
    assert 0.0 < measures["load_p50"] <= measures["load_p99"] <= measures["load_max"]


def test_the_latency_is_the_declared_formula(measures) -> None:
    frames = 882 + buffering_frames(128, 441, ms_to_frames(ALLOWANCE_MS, 44100))
    assert measures["latency_frames"] == frames
    assert measures["latency_ms"] == pytest.approx(1000 * frames / 44100)


def test_the_engine_loses_and_shifts_nothing(measures) -> None:
    assert measures["null_residual_db"] < -120.0


def test_scores_are_aligned_with_the_truth(measures) -> None:
    """Half the mix scores like the mix itself, if and only if it is at its place."""
    for name in ("vocals", "drums", "bass"):
        assert measures["si_sdr_db"][name] == pytest.approx(measures["si_sdr_mixture_db"][name], abs=1e-3)
    assert measures["si_sdr_db"]["other"] < -30.0  # the hop's number


def test_sounds_are_written_whole(measures, out) -> None:
    song = load_song(SECONDS)
    files = {name: read_audio(path)[0] for name, path in measures["files"].items()}
    assert set(files) == {"mix", "vocals", "drums", "bass", "other", "karaoke"}
    np.testing.assert_array_equal(files["mix"], song.mix)
    np.testing.assert_array_equal(files["vocals"], 0.5 * song.mix)
    np.testing.assert_allclose(files["karaoke"], 0.5 * song.mix, atol=1e-6)
    names = {Path(path).name for path in [*measures["files"].values(), measures["report"]]}
    assert {path.name for path in out.iterdir()} == names
    assert "<audio" in Path(measures["report"]).read_text(encoding="utf-8")


def test_chains_are_heard_in_their_stem_and_declared(tmp_path) -> None:
    chains = tmp_path / "chains.toml"
    chains.write_text(
        '[[chain.drums]]\nplugin = "Gain"\ngain_db = -20\n[[chain.bass]]\nplugin = "BrickwallLimiter"\n'
    )
    result = run("--out", tmp_path, "--chain", chains, "--seconds", 1, "--preset", "drumless", "--block", 441)
    measures = json.loads(result.stdout)
    mix, bass_latency = load_song(1).mix, 220
    assert measures["latency_frames"] > 882 + bass_latency
    assert measures["null_residual_db"] < -90.0
    np.testing.assert_allclose(read_audio(measures["files"]["drums"])[0], 0.05 * mix, atol=1e-6)
    assert "drumless" in measures["files"]


def test_silent_truth_has_no_score(tmp_path) -> None:
    measures = json.loads(run("--out", tmp_path, "--seconds", 0.5).stdout)
    assert measures["si_sdr_db"]["vocals"] is None
    assert measures["si_sdr_mixture_db"]["vocals"] is None


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--model", "nonsense"], "nonsense"),
        (["--chain", "missing.toml"], "missing.toml"),
        (["--preset", "karaoke", "--model", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_a_failing_start_is_one_line(tmp_path, arguments, word) -> None:
    result = run("--out", tmp_path / "new" / "out", *arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert word in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_cannot_start_is_one_line_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    closed = []

    def refuse(self):
        raise StartError("the separator has no memory left")

    def close(self, close=Performance.close):
        closed.append(True)
        close(self)

    monkeypatch.setattr(Performance, "start", refuse)
    monkeypatch.setattr(Performance, "close", close)
    result = run("--out", tmp_path)
    assert (result.exit_code, result.stderr) == (2, "Error: the separator has no memory left\n")
    assert closed == [True]
    assert list(tmp_path.iterdir()) == []


def test_compiling_is_announced(tmp_path, monkeypatch) -> None:
    def stop(*_arguments):
        raise StartError("enough")

    monkeypatch.setattr(demo_module, "cache_is_warm", lambda: False)
    monkeypatch.setattr(demo_module, "perform", stop)
    assert "Compiling" in run("--out", tmp_path).stderr.splitlines()[0]


def test_an_interrupt_fades_before_anything_closes() -> None:
    song, events = load_song(3), []
    compile_engine()
    performance = Performance(
        EngineSettings(model="signature", allowance_ms=ALLOWANCE_MS),
        song.rate_hz,
        song.mix,
        128,
        lambda event, **fields: events.append(event),
    )

    def interrupt(done):
        if done > 0.3:
            raise KeyboardInterrupt

    try:
        performance.start()
        health = performance._bridge.session.health
        with pytest.raises(KeyboardInterrupt):
            performance.play(interrupt)
        assert (health.count(SILENT), health.count(EPOCH)) == (1, 0)
    finally:
        performance.close()
    assert [event for event in events if event != "child"] == ["epoch", "faded", "closed"]


def test_ctrl_c_ends_with_130_and_no_half_written_file(tmp_path) -> None:
    command = [sys.executable, "-m", "host", "demo", "--model", "signature", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out").exists():
        time.sleep(0.02)
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    told, complaints = process.communicate(timeout=30)
    assert (process.returncode, told, complaints) == (130, "", "")
    assert list(tmp_path.iterdir()) == []
