"""Pulling a model: licence first, whole and right or not at all, and under its name afterwards."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from host import model_commands, model_pull
from host.cli import main
from host.downloads import DownloadError, Patience
from host.model_import import ImportRefusedError
from host.model_pull import pull_model
from model.catalogue import Entry, published_models
from model.checkpoint import load_model
from tests.host.file_server import FileServer, Misbehaviour, serving
from tests.model.published_files import BS, config_text, weights_of


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("published") / "a.safetensors"
    save_file({name: tensor.clone() for name, tensor in weights_of(BS).items()}, path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(content: bytes) -> Iterator[FileServer]:
    with serving(FileServer(content)) as running:
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMBRIDGE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


SETTINGS = {
    "architecture": "bs",
    "dim": 16,
    "stem_names": ("vocals", "other"),
    "stft_hop_frames": 441,
    "chunk_frames": 44100,
    "zero_dc": False,
}


def entry_of(server: FileServer, **changes: object) -> Entry:
    entry = Entry(
        "small",
        "A small model",
        server.address.replace(".ckpt", ".safetensors"),
        about_mb=0,
        bytes=0,
        sha256="",
        licence="",
        good_for="tests",
        score="",
        unsure="",
        settings=SETTINGS,
    )
    return dataclasses.replace(entry, **changes)


def pull(entry: Entry) -> list[str]:
    said: list[str] = []
    pull_model(entry, None, said.append)
    return said


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_pulled_model_works_under_its_name(server: FileServer, folder: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    said = pull(entry_of(server, sha256=digest, bytes=len(content), licence="MIT"))
    assert said == [f"sha256 {digest}  small.safetensors"]
    network, card = load_model("small")
    assert network.config.stem_names == ("vocals", "other") and card.licence == "MIT"
    assert names(folder) == ["small.safetensors", "small.safetensors.sha256"]


def test_a_broken_download_goes_on(server: FileServer) -> None:
    server.answers = [Misbehaviour(stop_after=20_000)]
    pull_model(entry_of(server), None, lambda line: None, Patience(20.0, 3, 0.0))
    assert server.ranges == [None, "bytes=20000-"] and load_model("small")


def test_the_first_hash_is_recorded_and_holds(server: FileServer, folder: Path, content: bytes) -> None:
    pull(entry_of(server))
    record = folder / "small.source.sha256"
    assert record.read_text().startswith(hashlib.sha256(content).hexdigest())
    assert CliRunner().invoke(main, ["models", "remove", "small"]).exit_code == 0
    server.content = content[:-4] + b"\x00\x00\x00\x01"
    with pytest.raises(ImportRefusedError, match=f"if its author replaced it, delete {record}"):
        pull(entry_of(server))
    assert names(folder) == ["small.source.sha256"]
    server.content = content
    pull(entry_of(server))


def test_another_file_than_on_record_is_refused(server: FileServer, folder: Path) -> None:
    with pytest.raises(ImportRefusedError, match=r"is not the file on record.*get it again"):
        pull(entry_of(server, sha256="0" * 64))
    assert names(folder) == []


def test_a_download_that_only_the_settings_do_not_fit_is_kept(server: FileServer, folder: Path) -> None:
    with pytest.raises(ImportRefusedError, match=r"dim is 384 .* but 16 .*pull small --config"):
        pull(entry_of(server, settings=SETTINGS | {"dim": 384}))
    assert names(folder) == ["small.safetensors"] and len(server.ranges) == 1
    pull(entry_of(server))
    assert len(server.ranges) == 1 and load_model("small")


def test_an_unfinished_download_can_be_removed(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [Misbehaviour(stop_after=20_000)]
    entry = entry_of(server)
    monkeypatch.setattr(model_pull, "published_models", lambda: {"small": entry})
    with pytest.raises(DownloadError):
        pull_model(entry, None, lambda line: None, Patience(20.0, 1, 0.0))
    assert names(folder) == ["small.safetensors.part", "small.safetensors.part.mark"]
    assert CliRunner().invoke(main, ["models", "remove", "small"]).exit_code == 0
    assert names(folder) == []


def test_a_size_that_is_not_sure_is_no_tight_cap(server: FileServer) -> None:
    server.content = server.content + bytes(2_000_000)
    with pytest.raises(ImportRefusedError, match="not a readable safetensors file"):
        pull(entry_of(server, about_mb=3, unsure="size as reported"))


def test_a_truncated_file_that_lies_about_its_length_is_refused(server: FileServer, folder: Path) -> None:
    server.content = server.content[:-5000]
    with pytest.raises(ImportRefusedError, match="not a readable safetensors file"):
        pull(entry_of(server))
    assert names(folder) == []


def test_the_size_on_record_is_the_cap(server: FileServer, folder: Path, content: bytes) -> None:
    server.content = bytes(1_200_000)
    with pytest.raises(DownloadError, match="more than the 1102000 that are allowed"):
        pull(entry_of(server, about_mb=0.1))
    assert names(folder) == []


def test_the_authors_yaml_says_what_the_catalogue_leaves_open(server: FileServer, content: bytes) -> None:
    settings = {key: value for key, value in SETTINGS.items() if key != "stem_names"}
    with serving(FileServer(config_text(BS).encode())) as author:
        pull(entry_of(server, settings=settings, config_address=author.address))
    assert load_model("small")[0].config.stem_names == ("vocals", "other")


def test_an_authors_yaml_that_contradicts_is_refused(server: FileServer, folder: Path) -> None:
    settings = {key: value for key, value in SETTINGS.items() if key != "stem_names"} | {"chunk_frames": 7}
    with (
        serving(FileServer(config_text(BS).encode())) as author,
        pytest.raises(ImportRefusedError, match="chunk_frames is 44100 in the YAML but 7 by the catalogue"),
    ):
        pull(entry_of(server, settings=settings, config_address=author.address))
    assert names(folder) == [] and server.ranges == []


def test_the_import_of_an_entry_is_recorded_and_shown(
    server: FileServer, folder: Path, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {"small": entry_of(server)}
    for module in (model_pull, model_commands):
        monkeypatch.setattr(module, "published_models", lambda: published)
    assert "to be recorded" in CliRunner().invoke(main, ["models", "show", "small"]).stdout
    (tmp_path / "eigène.safetensors").write_bytes(content)
    arguments = ["models", "import", str(tmp_path / "eigène.safetensors"), "--id", "small"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (folder / "small.source.sha256").exists()
    shown = CliRunner().invoke(main, ["models", "show", "small"]).stdout
    assert f"sha256  {hashlib.sha256(content).hexdigest()}" in shown


def test_an_unknown_size_is_shown_as_unknown() -> None:
    assert "mb  unknown" in CliRunner().invoke(main, ["models", "show", "aspiration-sucial"]).stdout


@pytest.mark.parametrize("licence", ["", "MIT"])
def test_the_licence_is_shown_before_anything_is_fetched(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, licence: str
) -> None:
    entry = entry_of(server, licence=licence)
    seen: list[list] = []
    monkeypatch.setattr(model_commands, "published_models", lambda: {"small": entry})
    monkeypatch.setattr(model_commands, "_tell", lambda *_: None)
    monkeypatch.setattr(model_pull, "pull_model", lambda *_: seen.append(list(server.ranges)))
    result = CliRunner().invoke(main, ["models", "pull", "small"])
    assert result.exit_code == 0 and seen == [[]]
    assert f"licence {licence or 'none stated'}" in result.stderr
    assert ("you may not pass them on" in result.stderr) == (not licence)


def test_an_unlicensed_entry_is_listed_as_such() -> None:
    listed = CliRunner().invoke(main, ["models", "show", "viperx-other"]).stdout
    assert "none stated" in listed and not published_models()["viperx-other"].licence


@pytest.mark.parametrize("command", ["list", "show", "pull", "verify", "remove", "import"])
def test_every_command_teaches(command: str) -> None:
    result = CliRunner().invoke(main, ["models", command, "--help"])
    assert result.exit_code == 0 and len(result.stdout.splitlines()) > 5
