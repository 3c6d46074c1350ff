"""Children launched early are handed over once, and leave when nobody asks for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import host.launch
from host.launch import launch, launch_early
from host.models import PLAIN, separator_options
from streaming.session import Session, SessionSpec

ROOT = Path(__file__).parents[2]
SEPARATOR = ("host.separator_process", json.dumps(separator_options("signature", PLAIN)))


def end(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def test_an_early_child_is_handed_over_once() -> None:
    launch_early(*SEPARATOR)
    launch_early(*SEPARATOR)
    first, second = launch(*SEPARATOR), launch(*SEPARATOR)
    assert first.pid < second.pid
    assert end(first) == end(second) == 0


def test_an_early_child_that_died_is_replaced() -> None:
    launch_early(*SEPARATOR)
    (early,) = host.launch._early.values()
    early.kill()
    early.wait()
    later = launch(*SEPARATOR)
    assert later.pid != early.pid
    assert end(later) == 0


def test_an_early_child_serves_the_session_it_is_told() -> None:
    launch_early(*SEPARATOR)
    session = Session.create(SessionSpec(44100, 2, ("vocals", "drums"), 441, 882, (False, False), 44100))
    process = launch(*SEPARATOR)
    out, _ = process.communicate(json.dumps({"session": session.name}) + "\n", timeout=120)
    assert json.loads(out.splitlines()[0]) == {"event": "ready"}
    assert process.returncode == 0
    session.close()
    session.unlink()


def test_an_early_child_leaves_with_its_parent() -> None:
    code = f"from host.launch import *; from host import launch as room; launch_early(*{SEPARATOR!r})\n"
    code += "print(next(iter(room._early.values())).pid)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    pid = int(said.stdout)
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail("it is still there")
