"""The doctor says what is missing and how to get it, whatever the machine is like."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from host import doctor, portaudio
from host.doctor import CHECKS, Finding, examine


def found(name: str) -> Finding:
    return next(finding for finding in examine() if finding.name == name)


def test_every_check_gives_a_row_that_is_json() -> None:
    findings = examine()
    assert [finding.name for finding in findings] == list(CHECKS)
    assert json.loads(json.dumps([finding.as_dict() for finding in findings]))[0]["name"] == "python"


def test_what_is_missing_always_has_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_library() -> None:
        raise portaudio.DeviceError("PortAudio could not be loaded")

    governor = tmp_path / "governor"
    governor.write_text("powersave\n")
    monkeypatch.setattr(portaudio, "library", no_library)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    monkeypatch.setattr(doctor, "_may_run_realtime", lambda: False)
    monkeypatch.setattr(doctor, "_can_write", lambda folder: False)
    monkeypatch.setattr(doctor, "GOVERNOR", governor)
    findings = {finding.name: finding for finding in examine()}
    missing = (
        "portaudio",
        "sound devices",
        "jack",
        "compiled cache",
        "real-time priority",
        "processor speed",
    )
    assert [name for name in missing if findings[name].ok] == []
    assert all(finding.remedy for finding in findings.values() if not finding.ok)


def test_a_remedy_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise portaudio.DeviceError("could not be loaded: apt-get install libportaudio2")

    monkeypatch.setattr(portaudio, "library", no_library)
    told = [f"{finding.detail} {finding.remedy}" for finding in examine()]
    assert sum(text.count("libportaudio2") for text in told) == 1


@pytest.mark.parametrize(
    ("apis", "ok", "detail"),
    [
        (["ALSA"], False, "/usr/bin/jackd, not running"),
        (["ALSA", "JACK Audio Connection Kit"], True, "/usr/bin/jackd, running"),
    ],
)
def test_a_jack_server_counts_when_it_runs(
    monkeypatch: pytest.MonkeyPatch, apis: list[str], ok: bool, detail: str
) -> None:
    devices = [portaudio.DeviceInfo(0, "system", api, 2, 2, 44100, True, True) for api in apis]
    monkeypatch.setattr(portaudio, "list_devices", lambda: devices)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "jackd" else None)
    assert (found("jack").ok, found("jack").detail) == (ok, detail)
    assert found("jack").remedy


def test_a_check_that_fails_is_a_row_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise OSError("two\nlines")

    monkeypatch.setitem(CHECKS, "jack", broken)
    assert found("jack") == Finding("jack", False, "could not be checked (two lines)", "report this")


def test_a_cache_folder_that_does_not_exist_yet_may_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor._can_write(tmp_path / "new" / "folder")
    assert not doctor._can_write(tmp_path / "file" / "folder")
