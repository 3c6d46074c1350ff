"""`stembridge train` makes weights that every other command takes, and goes on where it stopped."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from host.train import train
from model.header import read_header


def run(*arguments: str) -> Result:
    return CliRunner().invoke(train, ["--batch", "1", "--steps", "2", *arguments])


def test_a_run_that_stopped_goes_on_to_the_end(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path), "--json"]
    stopped = run(*out, "--minutes", "0.001")
    assert json.loads(stopped.stdout)["steps"] == 1
    finished = run(*out, "--resume")
    assert json.loads(finished.stdout) == {
        "weights": str(tmp_path / "model.safetensors"),
        "steps": 2,
        "of": 2,
    }
    config, card = read_header(tmp_path / "model.safetensors")
    assert config.stem_names == ("vocals", "drums", "bass", "other")
    assert card.text


def test_what_was_trained_is_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "training.pt").write_bytes(b"hours of work")
    refused = run("--out", str(tmp_path))
    assert refused.exit_code == 2
    assert "resume" in refused.stderr
    assert (tmp_path / "training.pt").read_bytes() == b"hours of work"
