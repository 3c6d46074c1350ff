"""A thread that holds the interpreter lock and a process that takes a processor do not reach the callback."""

import pytest

from benchmarks.beside_hogs import LIVE, measure
from tests.live.jack import needs_server


@pytest.mark.device
@pytest.mark.slow
@needs_server
def test_the_callback_loses_no_block_that_a_pass_through_does_not_lose_too() -> None:
    """One block of tolerance: which of two clients runs first in a cycle is the server's choice."""
    counted = measure(LIVE, 8.0, 128)
    assert counted["blocks"] > 1000
    assert counted["lost_alone"] <= 1
