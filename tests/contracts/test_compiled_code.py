"""The audio callback as machine code: no allocation, no way to raise, no interpreter, atomics in place."""

import os
import subprocess
import sys

import pytest

from tests.streaming.ir import FORBIDDEN

PRINT_IR = "from streaming.callback import stream_callback; print(stream_callback.inspect_llvm())"


@pytest.fixture(scope="module")
def callback_ir(tmp_path_factory):
    """LLVM IR of the callback, compiled afresh: what comes out of Numba's cache cannot be inspected."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_IR], env=environment, capture_output=True, text=True, check=True
    )
    assert "define" in done.stdout and "Inspection disabled" not in done.stderr
    return done.stdout


def test_it_names_no_allocation_no_raise_and_no_interpreter(callback_ir):
    assert sorted(set(FORBIDDEN.findall(callback_ir))) == []


@pytest.mark.parametrize(
    ("what", "least"),
    [
        ("load atomic i64, ", 10),  # timeline and snapshot counters
        ("store atomic i64 ", 7),  # a timeline's claim and end, and the five of a new run
        ("fence acq_rel", 5),  # two of the writer, one for each reader
    ],
)
def test_shared_counters_are_touched_atomically(callback_ir, what, least):
    assert callback_ir.count(what) >= least


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="process-shared semaphores are Linux's")
def test_it_wakes_the_separator_by_a_semaphore(callback_ir):
    assert "@sem_post(" in callback_ir
