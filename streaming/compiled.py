"""One place for the options of everything that the audio callback may run."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile `function` so that a C callback may call it and Python may too.

    The default error model leaves a raise path that takes the GIL inside a callback; `error_model="numpy"`
    does not (a division by zero gives zero or inf). Compiled code is cached on disk and releases the GIL.

    Threads: what comes out may be called by any thread, in any process.
    """
    return cast(Function, numba.njit(error_model="numpy", nogil=True, cache=True)(function))
