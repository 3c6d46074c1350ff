"""Settings of all tests: random cases come from fixed seeds and are not timed (a busy machine is no bug)."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("stembridge", deadline=None, derandomize=True)
settings.load_profile("stembridge")

# Triton, which others import too, reads it when it is imported: where no GPU is, it interprets its kernels.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# A shell has what it starts in the background ignore Ctrl-C, and the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def denormals_are_numbers() -> Iterator[None]:
    """A separator flushes denormals in its thread for good: right in its own process, not between tests."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
