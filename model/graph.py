"""Whether a live hop can be compiled here."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from model.causal_stream import CausalStream
from model.compromise import Compromise
from model.devices import first_line

if TYPE_CHECKING:
    from model.compiled_hop import CompiledHop


def capture_hop(stream: CausalStream) -> CompiledHop | None:
    """`stream.process` for exactly one hop a call, as compiled code; resets the stream.

    None for what is not one stream on a CPU, and, with a warning, where Numba is missing: then
    `stream.process` is the way. Threads: as the stream.
    """
    if stream.streams > 1 or stream.model.rotations.device.type != "cpu":
        return None
    try:
        from model.compiled_hop import CompiledHop  # Numba comes with the rest of stembridge, not with torch
    except ImportError as error:
        said = f"a hop runs as it is, three times slower: it cannot be compiled ({first_line(error)})"
        warnings.warn(said, Compromise, stacklevel=2)
        return None
    stream.reset()
    return CompiledHop(stream)
