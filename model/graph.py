"""The fastest way through a live hop that there is here."""

import warnings
from collections.abc import Callable

from torch import Tensor

from model.causal_stream import CausalStream
from model.compromise import Compromise
from model.devices import first_line


def capture_hop(stream: CausalStream) -> Callable[[Tensor], Tensor]:
    """`stream.process` for exactly one hop a call, as compiled code; resets the stream.

    It holds a copy of the weights as they are now and writes to the stream's own tensors, so `reset` stays
    in place. For what is not one stream on a CPU, and where Numba is missing, this is `stream.process`
    itself. Threads: as the stream.
    """
    if stream.streams > 1 or stream.model.rotations.device.type != "cpu":
        return stream.process
    try:
        from model.compiled_hop import CompiledHop  # Numba comes with the rest of stembridge, not with torch
    except ImportError as error:
        said = f"a hop runs as it is, three times slower: it cannot be compiled ({first_line(error)})"
        warnings.warn(said, Compromise, stacklevel=2)
        return stream.process
    hop = CompiledHop(stream)
    stream.reset()
    return hop
