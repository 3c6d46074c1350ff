"""Settings of all tests: random cases come from fixed seeds and are not timed (a busy machine is no bug)."""

import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("stembridge", deadline=None, derandomize=True)
settings.load_profile("stembridge")

# A shell has what it starts in the background ignore Ctrl-C, and the programs under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def denormals_are_numbers() -> Iterator[None]:
    """A separator flushes denormals in its thread for good: right in its own process, not between tests."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
