"""Files that are broken or mean harm: one line, exit code 2, nothing run, written or replaced."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from host.cli import main
from host.import_child import Margin, WeightsError, read_weights, write_weights
from model.catalogue import FOLDER_VARIABLE
from model.published import MAX_TENSORS
from tests.model.published_files import BS, MEL, config_text, weights_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return weights_of(BS)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "used.safetensors").write_bytes(b"the model in use")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


class Canary:
    """Leaves a file behind where a pickle is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def refused(models: Path, file: Path, message: str, config: str = "") -> None:
    """Import `file`: one line with `message`, and the folder of models as it was."""
    yaml = models.parent / "config.yaml"
    yaml.write_text(config or config_text(BS))
    result = CliRunner().invoke(main, ["models", "import", str(file), "--config", str(yaml), "--id", "new"])
    assert result.exit_code == 2, result.output
    (error,) = [line for line in result.stderr.splitlines() if not line.startswith("sha256 ")]
    assert error.startswith("Error: ") and message in error and str(file) in error, error
    assert [p.name for p in models.iterdir()] == ["used.safetensors"]
    assert (models / "used.safetensors").read_bytes() == b"the model in use"


@pytest.mark.parametrize(("protocol", "suffix"), [(2, ".th"), (4, ".pt"), ("zip", ".ckpt")])
def test_a_pickle_that_would_run_something_does_not(models: Path, weights, protocol, suffix: str) -> None:
    canary, file = models.parent / "canary", models.parent / f"evil{suffix}"
    content = {"state_dict": weights, "callbacks": Canary(canary)}
    if protocol == "zip":
        torch.save(content, file)
        refused(models, file, f"it holds {os.system.__module__}.system, which is code and no weights")
    else:
        file.write_bytes(pickle.dumps({"callbacks": Canary(canary)}, protocol))
        refused(models, file, "cannot be read")
    assert not canary.exists()


def test_the_canary_would_have_sung(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def test_a_damaged_pickle_is_refused(models: Path, weights) -> None:
    file = models.parent / "damaged.ckpt"
    torch.save(weights, file)
    content = file.read_bytes()
    for damaged in (content[:200], b"PK\x03\x04" + bytes(5000), b"\x80\x02" + b"\xff" * 5000, b"\x80"):
        file.write_bytes(damaged)
        with pytest.raises(WeightsError, match="no whole checkpoint"):
            read_weights(file)
    file.write_bytes(content[:-1000])
    refused(models, file, "no whole checkpoint")


def test_what_unpacks_to_more_than_its_size_is_refused(models: Path) -> None:
    file = models.parent / "wide.ckpt"
    torch.save({"a": torch.ones(1).expand(10**12)}, file)
    refused(models, file, "far more than its size")


def test_mislabelled_files_are_refused(models: Path, weights) -> None:
    torch.save(weights, models.parent / "a.safetensors")
    refused(models, models.parent / "a.safetensors", "called .safetensors but holds a pickle")
    save_file({k: t.clone() for k, t in weights.items()}, models.parent / "b.ckpt")
    refused(models, models.parent / "b.ckpt", "rename it to .safetensors")
    for name, content in {
        "empty.ckpt": b"",
        "text.pth": b"#!/bin/sh\n" * 9,
        "song.pt": b"RIFF\x00\x00\x00\x00WAVE",
    }.items():
        (models.parent / name).write_bytes(content)
        refused(models, models.parent / name, "no pickled checkpoint, whatever its name says")
    refused(models, models.parent / "missing.ckpt", "no file at")
    refused(models, models.parent, "no file at")


def broken_nan(weights: dict) -> dict:
    spoilt = weights["final_norm.gamma"].clone()
    spoilt[3] = torch.nan
    return {**weights, "final_norm.gamma": spoilt}


def broken_inf(weights: dict) -> dict:
    name = "band_split.to_features.5.1.bias"
    return {**weights, name: torch.full_like(weights[name], torch.inf)}


def without(name: str) -> Callable[[dict], dict]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def with_(**changes: torch.Tensor) -> Callable[[dict], dict]:
    return lambda weights: weights | {name.replace("__", "."): tensor for name, tensor in changes.items()}


LAST_BIAS = "layers.1.1.layers.0.1.net.4.bias"
WRONG: dict[str, tuple[Callable[[dict], dict], str]] = {
    "nan": (broken_nan, "final_norm.gamma holds NaN or infinity"),
    "inf": (broken_inf, "band_split.to_features.5.1.bias holds NaN or infinity"),
    "missing": (without(LAST_BIAS), f"missing {LAST_BIAS}"),
    "unexpected": (with_(extra__weight=torch.ones(1)), "unexpected extra.weight"),
    "shape": (with_(final_norm__gamma=torch.ones(17)), "final_norm.gamma has shape [17], not [16]"),
    "kind": (with_(final_norm__gamma=torch.ones(16, dtype=torch.int64)), "not floating point"),
    "another network": (lambda weights: {"conv.weight": torch.ones(3)}, "not those of a RoFormer"),
}


@pytest.mark.parametrize("what", WRONG)
def test_safetensors_with_wrong_weights_are_refused(models: Path, weights, what: str) -> None:
    edit, message = WRONG[what]
    file = models.parent / "wrong.safetensors"
    save_file({k: t.clone() for k, t in edit(weights).items()}, file)
    refused(models, file, message)


def test_a_hundred_thousand_tensors_are_refused(models: Path) -> None:
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{i}": nothing for i in range(100_000)}).encode()
    file = models.parent / "many.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(models, file, f"it holds 100000 tensors, and no model has over {MAX_TENSORS}")


def test_damaged_safetensors_are_refused(models: Path, weights) -> None:
    file = models.parent / "a.safetensors"
    save_file({k: t.clone() for k, t in weights.items()}, file)
    content = file.read_bytes()
    for damaged in (content[:-7], content[:50], (1 << 62).to_bytes(8, "little") + b"{" + bytes(99)):
        file.write_bytes(damaged)
        refused(models, file, "not a readable safetensors file")


def test_a_configuration_that_does_not_fit_its_weights_is_refused(models: Path, weights) -> None:
    file = models.parent / "a.safetensors"
    save_file({k: t.clone() for k, t in weights.items()}, file)
    refused(models, file, "architecture is mel in the configuration but bs in the weights", config_text(MEL))
    refused(models, file, "dim is 512 in the configuration but 16", config_text(BS | {"dim": 512}))
    three = config_text(BS, training={"instruments": ["a", "b", "c"]})
    refused(models, file, "names 3 stems (a, b, c), but the weights hold 2", three)
    refused(
        models, file, "stem_names must be different", config_text(BS, training={"instruments": ["a", "A"]})
    )


def test_a_bomb_of_a_configuration_changes_nothing(models: Path, weights) -> None:
    file = models.parent / "a.safetensors"
    save_file({k: t.clone() for k, t in weights.items()}, file)
    yaml = models.parent / "bomb.yaml"
    yaml.write_text(
        "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(9))
    )
    result = CliRunner().invoke(main, ["models", "import", str(file), "--config", str(yaml), "--id", "new"])
    assert (
        result.exit_code == 2
        and "more than 16 references" in result.stderr
        and result.stderr.count("\n") == 1
    )
    assert [p.name for p in models.iterdir()] == ["used.safetensors"]


def test_numbers_beside_the_weights_are_nothing_but_a_margin(tmp_path: Path, weights) -> None:
    torch.save(
        {"state": weights, "best_metric": np.float64(1.5), "scores": np.ones((2, 2)), "loss": np.float32(2)},
        tmp_path / "a.ckpt",
    )
    found = read_weights(tmp_path / "a.ckpt")
    assert found.keys() == weights.keys()
    assert Margin(np.ndarray, (0,), b"b").__dict__ == {}


def repacked(source: Path, target: Path, compression: int, edit: Callable[[bytes], bytes]) -> Path:
    """The zip archive of a checkpoint, packed anew."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)))
    return target


def test_numbers_of_an_older_numpy_are_a_margin_too(tmp_path: Path, weights) -> None:
    torch.save({"state": weights, "best_metric": np.float64(1.5)}, tmp_path / "new.ckpt")

    def older(content: bytes) -> bytes:
        return content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")

    old = repacked(tmp_path / "new.ckpt", tmp_path / "old.ckpt", zipfile.ZIP_STORED, older)
    assert b"numpy.core.multiarray" in old.read_bytes()
    assert read_weights(old).keys() == weights.keys()


def test_a_compressed_bomb_writes_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.ckpt")
    bomb = repacked(tmp_path / "plain.ckpt", tmp_path / "bomb.ckpt", zipfile.ZIP_DEFLATED, bytes)
    size = bomb.stat().st_size
    assert size < 10_000
    with pytest.raises(WeightsError, match="far more than its size"):
        write_weights(read_weights(bomb), tmp_path / "out.safetensors", 2 * size)
    assert not (tmp_path / "out.safetensors").exists()


WALLS = """
import ctypes, socket, sys, threading
from pathlib import Path
from host import sandbox
empty_network = sandbox.leave_network()
folder = Path(sys.argv[1])
filtered = sandbox._filter_calls()
native = ctypes.CDLL(None).socket(2, 1, 0)
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
sandbox.confine(1 << 28, 1 << 20, folder)
def attempt(name, action):
    try:
        action()
        print(name, "went through")
    except (sandbox.SandboxError, OSError, MemoryError) as error:
        print(name, "refused")
import os, subprocess
attempt("socket", lambda: socket.socket())
attempt("program", lambda: subprocess.run(["true"]))
attempt("system", lambda: os.system("true"))
attempt("other file", lambda: open(folder.parent / "other", "w"))
attempt("removal", lambda: (folder / "kept").unlink())
attempt("truncation", lambda: os.truncate(folder / "kept", 0))
attempt("folder", lambda: (folder / "made").mkdir())
attempt("owner", lambda: os.chown(folder / "kept", -1, -1))
attempt("time", lambda: os.utime(folder / "kept"))
attempt("memory", lambda: bytearray(1 << 30))
attempt("large file", lambda: (folder / "large").write_bytes(bytes(1 << 21)))
attempt("own file", lambda: (folder / "own").write_text("x"))
print(f"native {native}") if filtered else print("native -1")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these walls are Linux's")
def test_the_walls_of_the_reading_process_hold(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "kept").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", WALLS, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = set(done.stdout.splitlines())
    changes = ("other file", "removal", "truncation", "folder", "owner", "time")
    shut = ("socket", "program", "system", *changes, "memory", "large file")
    assert said == {"thread", "native -1", "own file went through", *(f"{name} refused" for name in shut)}, (
        done
    )
    assert (folder / "kept").read_text() == "kept" and not (tmp_path / "other").exists()
