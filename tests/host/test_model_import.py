"""A published file becomes a model with a name: the same numbers, a card, and its name works everywhere."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from host.cli import main
from host.models import describe, open_separator
from model.catalogue import CatalogueError, check_name, imported_models, resolve
from model.checkpoint import load_model
from tests.model.published_files import BS, MEL, config_text, oracle, weights_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMBRIDGE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def run(*arguments: object):
    return CliRunner().invoke(main, ["models", *map(str, arguments)])


def save_plain(path: Path) -> None:
    """Small weights in a file that needs no child to read."""
    save_file({name: tensor.clone() for name, tensor in weights_of(BS).items()}, path)


def import_it(path: Path, settings: dict = BS, name: str = "mine", *options: str):
    config = path.with_suffix(".yaml")
    config.write_text(config_text(settings))
    return run("import", path, "--config", config, "--id", name, *options)


@pytest.mark.parametrize("settings", [BS, MEL], ids=["bs", "mel"])
def test_an_imported_model_computes_what_the_reference_does(
    tmp_path: Path, folder: Path, settings: dict
) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"model_state_dict": weights_of(settings), "best_metric": np.float64(9.6), "epoch": 3}, path)
    result = import_it(path, settings, "mine", "--licence", "MIT", "--source", "a friend")
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert result.stderr.startswith(f"sha256 {digest}  a.ckpt\n")
    network, card = load_model("mine")
    assert network.config.stem_names == ("vocals", "other") and not network.training
    assert (card.licence, card.source) == ("MIT", f"a friend (sha256 {digest})")
    audio = 0.1 * torch.randn(1, 2, 9000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours, theirs = network(audio), oracle(settings)(audio)
    shared = min(ours.shape[-1], theirs.shape[-1])
    torch.testing.assert_close(ours[..., :shared], theirs[..., :shared], rtol=1e-4, atol=1e-6)
    assert sorted(p.name for p in folder.iterdir()) == ["mine.safetensors", "mine.safetensors.sha256"]


def test_safetensors_and_half_precision_are_imported_too(tmp_path: Path) -> None:
    weights = {name: tensor.half().contiguous().clone() for name, tensor in weights_of(BS).items()}
    save_file(weights, tmp_path / "half.safetensors")
    assert import_it(tmp_path / "half.safetensors").exit_code == 0
    state = load_model("mine")[0].state_dict()
    for name, tensor in weights.items():
        assert state[name].dtype == torch.float32
        torch.testing.assert_close(state[name], tensor.float(), rtol=0, atol=0)


def test_a_header_length_that_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    weights = {name: tensor.clone() for name, tensor in weights_of(BS).items()}
    for padding in range(0, 256, 8):
        save_file(weights, path, {"padding": "x" * padding})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert import_it(path).exit_code == 0


def test_an_imported_model_is_listed_shown_verified_and_removed(tmp_path: Path, folder: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    assert import_it(tmp_path / "a.safetensors").exit_code == 0
    rows = json.loads(run("list", "--json").stdout)
    mine = next(row for row in rows if row["id"] == "mine")
    assert mine["here"] and mine["stems"] == ["vocals", "other"] and mine["licence"] == "none stated"
    shown = json.loads(run("show", "mine", "--json").stdout)
    assert shown["configuration"]["stft_hop_frames"] == 441 and "nobody may pass them on" in shown["text"]
    assert json.loads(run("verify", "--json").stdout) == {"mine": "ok"}
    path = folder / "mine.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    changed = run("verify", "mine")
    assert changed.exit_code == 2 and "mine: changed since it was imported" in changed.stdout
    assert changed.stderr.count("\n") == 1
    assert json.loads(run("remove", "mine", "--json").stdout) == {"id": "mine", "removed": str(path)}
    assert list(folder.iterdir()) == [] and imported_models() == {}
    gone = run("remove", "mine")
    assert gone.exit_code == 2 and "no model 'mine' was imported here" in gone.stderr


def test_an_import_reports_what_came_of_it(tmp_path: Path, folder: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    facts = json.loads(import_it(tmp_path / "a.safetensors", BS, "mine", "--json").stdout)
    assert (facts["id"], facts["stems"]) == ("mine", ["vocals", "other"])
    assert facts["file"] == str(folder / "mine.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_model_has_the_mode_of_its_record(tmp_path: Path, folder: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    before = os.umask(0o027)
    try:
        assert import_it(tmp_path / "a.safetensors").exit_code == 0
    finally:
        os.umask(before)
    assert (folder / "mine.safetensors").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_import_left_is_swept(tmp_path: Path, folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = folder / f".import-x.{socket.gethostname()}-{process.pid}.part"
    left.mkdir(parents=True)
    save_plain(tmp_path / "a.safetensors")
    assert import_it(tmp_path / "a.safetensors").exit_code == 0
    assert not left.exists()


def test_a_broken_model_is_listed_as_broken(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.safetensors").write_bytes(b"nothing")
    listed = run("list")
    assert listed.exit_code == 0 and "broken" in listed.stdout
    row = next(row for row in json.loads(run("list", "--json").stdout) if row["id"] == "mine")
    assert "not a readable safetensors file" in row["problem"]


def test_a_card_does_not_steer_the_terminal(tmp_path: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    assert import_it(tmp_path / "a.safetensors", BS, "mine", "--licence", "\x1b[2Jx[/b]").exit_code == 0
    for command in (["show", "mine"], ["list"]):
        result = run(*command)
        assert result.exit_code == 0 and "\x1b" not in result.stdout


def test_a_bad_folder_of_models_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEMBRIDGE_MODELS", str(tmp_path / "file" / "models"))
    save_plain(tmp_path / "a.safetensors")
    result = import_it(tmp_path / "a.safetensors")
    assert (
        result.exit_code == 2 and "set STEMBRIDGE_MODELS to a folder that you may write to" in result.stderr
    )


def test_a_name_is_taken_once(tmp_path: Path, folder: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    assert import_it(tmp_path / "a.safetensors").exit_code == 0
    before = (folder / "mine.safetensors").read_bytes()
    again = import_it(tmp_path / "a.safetensors")
    assert again.exit_code == 2 and "there is a model 'mine' already" in again.stderr
    assert (folder / "mine.safetensors").read_bytes() == before


def test_an_imported_model_runs_live_in_windows(tmp_path: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    assert import_it(tmp_path / "a.safetensors").exit_code == 0
    told, opened = describe("mine", 44100), open_separator("mine", 44100)
    assert told.latency_frames == opened.latency_frames > 2048
    assert told.window_frames == opened.window_frames > 80_000


def test_what_the_yaml_leaves_open_must_be_said(tmp_path: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    config = tmp_path / "a.yaml"
    config.write_text(config_text(BS, model={"zero_dc": ...}))
    arguments = ["import", tmp_path / "a.safetensors", "--config", config, "--id", "mine"]
    silent = run(*arguments)
    assert silent.exit_code == 2 and "zero_dc (in a YAML: model.zero_dc)" in silent.stderr
    assert run(*arguments, "--zero-dc").exit_code == 0
    assert load_model("mine")[0].config.zero_dc is True
    config.write_text(config_text(BS))
    contrary = run(*arguments[:-1], "other", "--zero-dc")
    assert contrary.exit_code == 2 and "zero_dc is False in the YAML but True by --zero-dc" in contrary.stderr


def test_without_a_yaml_the_missing_setting_is_named(tmp_path: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    result = run("import", tmp_path / "a.safetensors", "--id", "mine")
    assert result.exit_code == 2 and "neither weights nor configuration tell stem_names" in result.stderr


def test_an_id_of_the_catalogue_brings_its_settings_and_its_hash(tmp_path: Path, folder: Path) -> None:
    save_plain(tmp_path / "a.safetensors")
    wrong = run("import", tmp_path / "a.safetensors", "--id", "kim-vocals")
    assert wrong.exit_code == 2 and "is not the file on record" in wrong.stderr
    other = run("import", tmp_path / "a.safetensors", "--id", "viperx-vocals-1296")
    assert other.exit_code == 2 and "dim is 512 in the configuration but 16 in the weights" in other.stderr
    assert not list(folder.glob("*"))


NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc/x",
    "A",
    "a b",
    "builtin",
    "studio",
    "signature",
    "x.safetensors",
    "-a",
    "a" * 65,
    "a\n",
    "con",
    "nul.x",
    "com1",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_path(name: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot name a model"):
        check_name(name)
    torch.save({"a": 1}, tmp_path / "a.ckpt")
    result = run("import", tmp_path / "a.ckpt", "--id", name)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and not folder.exists()


def test_a_published_model_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(CatalogueError, match="get it with `stembridge models pull kim-vocals`"):
        resolve("kim-vocals")
    with pytest.raises(CatalogueError, match="models pull kim-vocals"):
        describe("kim-vocals", 44100)
    for command in ("show", "pull", "verify", "remove"):
        unknown = run(command, "htdemucs")
        assert unknown.exit_code == 2 and unknown.stderr.count("\n") == 1 and "'htdemucs'" in unknown.stderr
