"""Memory over many hops: flat within 1 MB."""

import gc
from collections.abc import Callable

import numpy as np
import pytest

from host.hop_times import resident_mb
from model.separators import CausalSeparator
from model.window_framing import WindowFraming
from model.windowed import WindowedSeparator
from tests.model.builders import noise, random_model, small
from tests.model.test_windowed import network_of

SETTLING_HOPS, HOPS, RESET_EVERY, FLAT_MB = 1000, 10_000, 2500, 1.0

MAKERS = {
    "causal": lambda: CausalSeparator(random_model(small("live"))),
    "causal with look-ahead": lambda: CausalSeparator(random_model(small("studio"))),
    "causal, two streams": lambda: CausalSeparator(random_model(small("live")), streams=2),
    "windowed": lambda: WindowedSeparator(network_of(), WindowFraming(384, 96, 128, 32)),
}


@pytest.mark.slow
@pytest.mark.skipif(not resident_mb(), reason="the system does not tell memory as Linux does")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_memory_is_flat(make: Callable[[], CausalSeparator | WindowedSeparator]) -> None:
    separator = make()
    separator.warm_up()
    several = (separator.streams,) if separator.streams > 1 else ()
    mixture = np.broadcast_to(noise(2, separator.window_frames), (*several, 2, separator.window_frames))
    frames = separator.hop_frames + getattr(separator, "fade_frames", 0)
    stems = np.empty((*several, len(separator.stem_names), 2, frames), np.float32)

    def memory_after(hops: int) -> float:
        for hop in range(hops):
            if hop % RESET_EVERY == 0:
                separator.reset()
            separator.separate(mixture, stems)
        gc.collect()
        return resident_mb()

    before = memory_after(SETTLING_HOPS)
    grown = memory_after(HOPS) - before
    separator.close()
    assert grown < FLAT_MB
