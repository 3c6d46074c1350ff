"""What the benchmarks refuse: in one line, with exit code 2, before they spend their time."""

import sys

import pytest

from benchmarks import (
    cpu_paths,
    cpu_settings,
    gpu_paths,
    latency_quality,
    listen,
    mask_domains,
    model_hop,
    network_sizes,
    recipes,
)
from model import catalogue
from model.catalogue import CatalogueError
from model.profiles import PROFILES

DIAL = ["--model", "studio", "--out", "out"]
PAGE = ["--report", "page.html"]


@pytest.fixture(autouse=True)
def in_a_folder_without_songs(tmp_path, monkeypatch):
    """Where a file lies in the way, and nobody makes a song in vain."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("model.training.evaluate.song", None)
    (tmp_path / "file").touch()


@pytest.mark.parametrize(
    ("benchmark", "arguments", "said"),
    [
        (latency_quality, ["--model", "nosuch"], "unknown model 'nosuch'"),
        (latency_quality, [*DIAL, "--audio", "nonexistent"], "nonexistent: has no files.tsv"),
        (
            latency_quality,
            [*DIAL, "--seconds", "nan"],
            "must be from 1 to 3600 seconds, not 'nan'",
        ),
        (latency_quality, [*DIAL, "--songs", "0"], "--songs: must be a whole number above 0"),
        (
            latency_quality,
            [*DIAL, "--loads", "--hops", "0"],
            "--hops: must be a whole number above 0",
        ),
        (latency_quality, [*DIAL, "--loads"], "latency_quality.json: holds no scores of these points"),
        (latency_quality, ["--model", "studio", "--out", "file"], "file: cannot hold results"),
        (listen, [*PAGE, "--audio", "nonexistent"], "nonexistent: has no files.tsv"),
        (listen, [*PAGE, "--songs", "0"], "--songs: must be a whole number above 0"),
        (listen, [*PAGE, "--model", "nosuch"], "unknown model 'nosuch'"),
        (listen, ["--report", "file/x.html"], "file: cannot hold results"),
        (model_hop, ["--model", "liv"], "unknown model 'liv'"),
        (model_hop, ["--hops", "-1"], "--hops: must be a whole number above 0, not '-1'"),
        (model_hop, ["--record", "file/x.json"], "file: cannot hold results"),
        (cpu_paths, ["--model", "liv"], "unknown model 'liv'"),
        (cpu_settings, ["--model", "liv"], "unknown model 'liv'"),
        (cpu_settings, ["--hops", "0"], "--hops: must be a whole number above 0"),
        (gpu_paths, [], "No CUDA device can be used here"),
        (mask_domains, ["--audio", "nonexistent"], "nonexistent: has no files.tsv"),
        (network_sizes, ["--audio", "nonexistent"], "nonexistent: has no files.tsv"),
        (network_sizes, ["--out", "file"], "file: cannot hold results"),
        (network_sizes, ["--steps", "0"], "--steps: must be a whole number above 0"),
        (recipes, ["--seed", "-1"], "--seed: must be a whole number from 0 to 4294967295"),
        (recipes, ["--steps", "x"], "--steps: must be a whole number above 0"),
        (network_sizes, ["--loads"], "run without --loads first"),
    ],
)
def test_a_refusal_is_one_line_and_2(benchmark, arguments, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and error.count("\n") == 1
    assert said in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_profile_without_weights_is_measured_with_random_ones(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    for name, profile in {"builtin": "live", **dict(zip(PROFILES, PROFILES, strict=True))}.items():
        network, weights = model_hop.network_of(name)
        assert (network.config, weights) == (PROFILES[profile], "random weights")
    with pytest.raises(CatalogueError, match="unknown model 'liv'"):
        model_hop.network_of("liv")
