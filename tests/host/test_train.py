"""`stembridge train` makes weights that every other command takes, and goes on where it stopped."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from pedalboard.io import AudioFile

from host.train import train
from host.training_log import TrainingLog
from model.header import read_header
from model.profiles import TRAINABLE
from model.training.train import Progress

SMALL = ["--batch", "1", "--steps", "2", "--item-s", "0.2", "--device", "cpu", "--validate-every", "0"]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder with one song: what is recorded needs no rendering."""
    rng = np.random.default_rng(0)
    for name in ("vocals", "drums", "bass", "other"):
        path = tmp_path / "songs" / "one" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with AudioFile(str(path), "w", 44_100, 2) as file:
            file.write(0.1 * rng.standard_normal((2, 5 * 44_100)).astype(np.float32))
    return tmp_path / "songs"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(train, [*SMALL, *arguments])


def test_a_run_that_stopped_goes_on_to_the_end(tmp_path: Path, songs: Path) -> None:
    out = ["--out", str(tmp_path), "--songs", str(songs), "--items", "published", "--json"]
    stopped = run(*out, "--minutes", "0.001", "--profile", "stage", "--dropout", "0.1")
    assert json.loads(stopped.stdout)["steps"] == 1
    finished = run(*out, "--resume")
    assert json.loads(finished.stdout) == {
        "weights": str(tmp_path / "model.safetensors"),
        "steps": 2,
        "of": 2,
        "remarks": [],
    }
    config, card = read_header(tmp_path / "model.safetensors")
    assert config == TRAINABLE["stage"]
    assert card.text
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    assert saved["recipe"]["dropout"] == 0.1  # not given again, and kept
    assert [row["step"] for row in table(tmp_path)] == ["1", "2"]


def test_a_run_that_goes_on_with_other_recordings_says_so(tmp_path: Path, songs: Path) -> None:
    out = ["--out", str(tmp_path / "out"), "--songs", str(songs), "--items", "published", "--json"]
    assert run(*out).exit_code == 0
    shutil.copytree(songs / "one", songs / "two")
    finished = run("--out", str(tmp_path / "out"), "--resume", "--steps", "3", "--json")
    (remark,) = [line for line in json.loads(finished.stdout)["remarks"] if "recordings" in line]
    nothing = "0 sung, 0 spoken, 0 backgrounds, 0 one-shots"
    assert remark == (
        f"resumed with other recordings: 8 stems, {nothing}, 1764000 frames in all;"
        f" so far 4 stems, {nothing}, 882000 frames in all"
    )


def test_a_mix_of_items_that_have_none_is_refused(tmp_path: Path) -> None:
    for published in (("--items", "published"), ("--recipe", "published")):
        result = run("--out", str(tmp_path), *published, "--mix", "speech=0")
        assert result.exit_code == 2
        assert "have no mix; leave out one of the two" in result.stderr


def test_songs_that_cannot_be_used_are_named_and_skipped_or_refused(tmp_path: Path, songs: Path) -> None:
    for bad in ("two", "three"):
        shutil.copytree(songs / "one", songs / bad)
        (songs / bad / "bass.wav").unlink()
    options = ["--songs", str(songs), "--items", "published", "--json"]
    skipped = run("--out", str(tmp_path / "a"), *options)
    expected = [f"left out: {songs}/{bad}: has no bass; not used" for bad in ("three", "two")]
    assert json.loads(skipped.stdout)["remarks"] == expected
    refused = run("--out", str(tmp_path / "b"), *options, "--bad-data", "refuse")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[:2] == expected
    assert "three: has no bass; not used (and 1 more)" in refused.stderr.splitlines()[2]
    assert not (tmp_path / "b" / "training.pt").exists()


def test_a_terminated_run_keeps_its_checkpoint_and_no_second_one_may_write_there(
    tmp_path: Path, songs: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "host", "train", "--out", str(out), "--songs", str(songs)]
    command += ["--items", "published", *SMALL, "--steps", "100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 120.0
        while not (out / "history.csv").exists() or len(table(out)) < 2:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        second = run("--out", str(out), "--songs", str(songs), "--items", "published")
        running.send_signal(signal.SIGTERM)
        said = running.stderr.read().decode()
        assert running.wait(60) == 130
    assert said.splitlines()[-1] == f"stopped: {out}/training.pt keeps what was learned; go on with --resume"
    assert second.exit_code == 2
    assert "another training writes there; stop it or choose another" in second.stderr
    assert torch.load(out / "training.pt", weights_only=True)["step"] >= 2
    assert run("--out", str(out), "--resume", "--minutes", "0", "--steps", "100000").exit_code == 0


def test_a_run_stopped_while_it_prepares_says_that_nothing_is_kept(
    tmp_path: Path, songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host.train.QUIET_S", 0.05)

    def reads_until_it_is_stopped(*_: object) -> None:
        time.sleep(0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr("model.training.train.training_stream", reads_until_it_is_stopped)
    stopped = run("--out", str(tmp_path / "out"), "--songs", str(songs))
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines() == [
        f"preparing items: recordings are read and songs synthesised once, into {tmp_path}/out/cache",
        f"stopped before the first step: what was prepared stays in {tmp_path}/out/cache",
    ]


def test_a_network_of_another_size_is_trained_and_resumed(tmp_path: Path, songs: Path) -> None:
    size = ["--dim", "32", "--depth", "2", "--heads", "2", "--dim-head", "8"]
    size += ["--past-frames", "16", "--mask-hidden", "4"]
    trained = run(
        "--out", str(tmp_path / "out"), "--songs", str(songs), "--mix", "recorded=1,background=0", *size
    )
    assert trained.exit_code == 0, trained.stderr
    config = read_header(tmp_path / "out" / "model.safetensors")[0]
    assert (config.dim, config.depth, config.heads, config.dim_head) == (32, 2, 2, 8)
    assert (config.past_frames, config.mask_hidden) == (16, 4)
    assert run("--out", str(tmp_path / "out"), "--resume", "--steps", "3").exit_code == 0
    refused = run("--out", str(tmp_path / "out"), "--resume", "--steps", "4", "--dim", "64")
    assert refused.exit_code == 2
    assert "another config" in refused.stderr


def test_what_was_trained_is_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "training.pt").write_bytes(b"hours of work")
    refused = run("--out", str(tmp_path))
    assert refused.exit_code == 2
    assert "resume" in refused.stderr
    assert (tmp_path / "training.pt").read_bytes() == b"hours of work"
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dropout", "1.5"], "dropout must be"),
        (["--steps", "0"], "steps must be from 1"),
        (["--init", "live", "--dim", "96"], "leave out --dim"),
        (["--dim", "100000000"], "--dim: over 1,000,000,000 weights; choose a smaller network"),
        (["--mask-hidden", "100000000"], "--mask-hidden: over 1,000,000,000 weights"),
        (["--dim-head", "15"], "dim_head must be even"),
        (["--past-frames", "4096"], "past_frames 4096 is more than half of the rotary period"),
        (["--mix", "recorded=1e308,synthetic=1e308"], "too large together"),
        (["--init", "no-such-model"], "no-such-model"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    refused = run("--out", str(tmp_path), *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def log(folder: Path, steps: range) -> None:
    with TrainingLog(folder, print) as training_log:
        for step in steps:
            validation = 2.0 / step if step % 2 == 0 else None
            training_log.take(Progress(step, 9, 3.0 / step, 0.0, 1e-3, validation))


def test_the_log_of_a_resumed_training_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    log(tmp_path, range(1, 6))
    log(tmp_path, range(4, 8))  # steps 4 and 5 were made, but not saved
    assert [int(row["step"]) for row in table(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["validation"] for row in table(tmp_path)][:4] == ["", "1", "", "0.5"]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "logs").glob("events*"))


def test_a_log_that_a_machine_going_down_cut_off_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    log(tmp_path, range(1, 4))
    with (tmp_path / "history.csv").open("ab") as file:
        file.write(b"4,0.75\r\n" + bytes(20) + b"5,0.6,0.001,\r\n")
    log(tmp_path, range(4, 6))
    assert [int(row["step"]) for row in table(tmp_path)] == [1, 2, 3, 4, 5]


def test_what_went_wrong_is_not_hidden_by_a_curve_that_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the disk is full"), TrainingLog(tmp_path, print) as training_log:
        training_log.take(Progress(1, 9, 3.0, 0.0, 1e-3, None))
        (tmp_path / "curve.png").mkdir()
        raise RuntimeError("the disk is full")


def test_nothing_is_written_before_the_first_report(tmp_path: Path) -> None:
    log(tmp_path, range(0))
    assert not list(tmp_path.iterdir())
