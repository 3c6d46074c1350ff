"""A library on two workers, one killed in the middle: nothing lost, nothing doubled, nothing different."""

import io
import json
import os
import signal
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from host.audio_files import write_audio
from host.cli import main
from host.cluster import OPENING, run_on_cluster
from host.library import Job, read_record
from host.renderers import Quality
from host.stem_files import Order, separate_file
from model.checkpoint import ModelCard, save_checkpoint
from tests.model.builders import random_model

SONGS = 5
VICTIM = "2"


class KillingBars:
    """Kills the process that separates `VICTIM` when it first reports a part of it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.killed = 0
        self.listening: set[str] = set()
        self.seen: set[str] = set()
        self.open: set[Path] = set()

    def advance(self, path: Path, done: float) -> None:
        assert 0 <= done <= 1
        self.seen.add(path.stem)
        self.open.add(path)
        if path.stem == VICTIM and not self.killed:
            part = next(self.out.glob(f".{VICTIM}.*.part"))
            self.killed = int(part.suffixes[-2].rpartition("-")[2])
            self.niceness = os.getpriority(os.PRIO_PROCESS, self.killed)
            os.kill(self.killed, signal.SIGKILL)
            self.listening = listening_addresses(descendants(os.getpid()))

    def end(self, path: Path, done: float = 1.0) -> None:
        self.seen.add(path.stem)
        self.open.discard(path)


def descendants(process: int) -> set[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening_addresses(processes: set[int]) -> set[str]:
    """Addresses, in the hexadecimal of /proc/net, on which the processes wait for connections."""
    inodes = set()
    for process in processes:
        for link in Path(f"/proc/{process}/fd").glob("*"):
            try:
                inodes.add(str(link.readlink()))
            except OSError:
                continue
    text = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    sockets = [line.split() for line in text.splitlines()]
    return {
        part[1].partition(":")[0] for part in sockets if part[3] == "0A" and f"socket:[{part[9]}]" in inodes
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if find_spec("ray") is None:  # not importorskip: Ray settles its addresses when it is imported
        pytest.skip("Ray is not installed: pip install 'stembridge[cluster]'")
    folder = tmp_path_factory.mktemp("cluster")
    save_checkpoint(folder / "small.safetensors", random_model(), ModelCard("CC0-1.0", "random", "random"))
    for seed in range(SONGS):
        audio = 0.1 * np.random.default_rng(seed).standard_normal((2, 8 * 44100))
        write_audio(folder / "in" / f"{seed}.wav", audio.astype(np.float32), 44100)
    (folder / "in" / "bad.wav").write_text("no audio")
    order = Order(str(folder / "small.safetensors"), "cpu", quality=Quality(threads=1))
    out = folder / "out"
    jobs = [Job(path, out / path.stem) for path in sorted((folder / "in").iterdir())]
    bars = KillingBars(out)
    with redirect_stdout(io.StringIO()) as stdout:
        outcomes = list(run_on_cluster(jobs, order, order.settings(), bars, workers=2))
    bars.printed = stdout.getvalue()
    return folder, order, bars, outcomes


def test_a_worker_was_killed_in_the_middle(run) -> None:
    assert run[2].killed


def test_nothing_but_results_reaches_stdout(run) -> None:
    assert run[2].printed == ""  # Ray tells of the dead worker there


def test_workers_are_no_nicer_than_the_command(run) -> None:
    assert run[2].niceness == os.getpriority(os.PRIO_PROCESS, 0)


def test_every_file_has_one_outcome_and_only_the_bad_one_failed(run) -> None:
    _, _, bars, outcomes = run
    assert sorted(outcome.job.source.stem for outcome in outcomes) == ["0", "1", "2", "3", "4", "bad"]
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.job.source.stem for outcome in failed] == ["bad"]
    assert "cannot be read as audio" in failed[0].error and "after 3 attempts" in failed[0].error
    assert bars.seen == {"0", "1", "2", "3", "4", "bad", OPENING.stem}
    assert not bars.open


def test_what_lies_there_is_whole_and_nothing_else_does(run) -> None:
    folder, order, _, outcomes = run
    names = sorted(path.name for path in (folder / "out").iterdir() if path.suffix != ".part")
    assert names == ["0", "1", "2", "3", "4"]
    for outcome in outcomes:
        if outcome.record:
            assert read_record(outcome.job.folder) == outcome.record
            assert outcome.record["settings"] == order.settings()


def test_the_stems_are_those_of_one_machine_to_the_bit(run) -> None:
    folder, order, _, outcomes = run
    renderer = order.open()
    for outcome in outcomes:
        if not outcome.record:
            continue
        job = Job(outcome.job.source, folder / "alone" / outcome.job.source.stem)
        for _ in separate_file(job, renderer, order.form, order.settings()):
            pass
        for name in outcome.record["files"].values():
            assert (job.folder / name).read_bytes() == (outcome.job.folder / name).read_bytes()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc to see who listens where")
def test_a_cluster_of_ones_own_listens_on_the_loopback_only(run) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert run[2].listening and run[2].listening <= loopback


def test_the_command_goes_on_where_the_cluster_left_off(run) -> None:
    folder, order, _, _ = run
    arguments = [str(folder / "in"), "--out", str(folder / "out"), "--model", order.model, "--json"]
    result = CliRunner().invoke(main, ["separate", *arguments])
    told = json.loads(result.stdout)
    assert (len(told["done_before"]), told["separated"], len(told["failed"])) == (5, [], 1)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("address", "says"),
    [("nonsense", "HOST:PORT"), ("127.0.0.1:1", "Connection refused"), ("127.0.0.1:x", "HOST:PORT")],
)
def test_an_address_where_no_cluster_is_is_told_at_once(tmp_path, address, says) -> None:
    write_audio(tmp_path / "a.wav", np.zeros((2, 100), np.float32), 44100)
    arguments = [str(tmp_path / "a.wav"), "--model", "signature", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(main, ["separate", *arguments, f"--cluster={address}"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and address in result.stderr and says in result.stderr
    assert not (tmp_path / "o").exists()


def test_without_ray_it_says_how_to_get_it(tmp_path, monkeypatch) -> None:
    def missing(name):
        raise ImportError(name)

    write_audio(tmp_path / "a.wav", np.zeros((2, 100), np.float32), 44100)
    monkeypatch.setattr("importlib.import_module", missing)
    from host.separate import separate

    arguments = [str(tmp_path / "a.wav"), "--model", "signature", "--out", str(tmp_path / "o"), "--cluster"]
    result = CliRunner().invoke(separate, arguments)
    assert result.exit_code == 2
    assert result.stderr == "Error: Ray is not installed: pip install 'stembridge[cluster]'.\n"
