"""A compiled callback wakes a waiting process.

On Linux a process-shared POSIX semaphore, elsewhere a counter that the waiter polls. Either way posts add
up to one wake-up: `wait` returns True if there was any post since it last did, so whoever looks at the
timelines after a wake-up misses nothing.
"""

import ctypes
import errno
import math
import os
import sys
import time

import numpy as np
import numpy.typing as npt
from numba import types

from streaming.atomics import fetch_add, load_acquire
from streaming.compiled import compiled

WORDS = 8  # 64 bytes; sem_t takes 32 on 64-bit Linux
POLL_S = 0.0005

Words = npt.NDArray[np.int64]

# By symbol and not by address, so that compiled callers can be cached.
_sem_post = types.ExternalFunction("sem_post", types.intc(types.uintp))


@compiled
def semaphore_post(words: Words) -> None:
    """Post the semaphore in `words`. Threads: any, compiled code without the GIL included; never waits."""
    _sem_post(words.ctypes.data)  # type: ignore[call-overload]


@compiled
def counter_post(words: Words) -> None:
    """Count one post in words[0]. Threads: any, compiled code without the GIL included; never waits."""
    fetch_add(words, 0, 1)


@compiled
def _posts(words: Words) -> int:
    count: int = load_acquire(words, 0)
    return count


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


class SemaphoreWakeup:
    """Wake-up through a process-shared semaphore (Linux).

    Parameters
    ----------
    words : int64 [8] in shared memory
    create : True in the process that made the memory, once, before anybody posts or waits

    Threads: `post` any, `wait` one waiter.
    """

    def __init__(self, words: Words, create: bool) -> None:
        self._words = words
        self._address = ctypes.c_void_p(words.ctypes.data)
        self._libc = ctypes.CDLL(None, use_errno=True)
        if create and self._libc.sem_init(self._address, 1, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot make a process-shared semaphore")

    def post(self) -> None:
        """Wake the waiter."""
        semaphore_post(self._words)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a post for at most `timeout_s` >= 0 seconds; False if there was none."""
        deadline_s = time.monotonic() + timeout_s
        fraction, seconds = math.modf(deadline_s)
        deadline = _Timespec(int(seconds), int(fraction * 1e9))
        while self._libc.sem_clockwait(self._address, time.CLOCK_MONOTONIC, ctypes.byref(deadline)) != 0:
            error = ctypes.get_errno()
            if error == errno.ETIMEDOUT:
                return False
            if error != errno.EINTR:
                raise OSError(error, f"cannot wait for a semaphore: {os.strerror(error)}")
        while self._libc.sem_trywait(self._address) == 0:
            pass
        return True


class PollingWakeup:
    """Wake-up through a counter that `wait` polls, where there are no process-shared semaphores.

    Parameters and threads as for `SemaphoreWakeup`.
    """

    def __init__(self, words: Words, create: bool) -> None:
        self._words = words
        self._seen = 0
        if create:
            words[:] = 0

    def post(self) -> None:
        """Wake the waiter."""
        counter_post(self._words)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a post for at most `timeout_s` >= 0 seconds; False if there was none."""
        deadline_s = time.monotonic() + timeout_s
        while (posts := _posts(self._words)) == self._seen:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(POLL_S)
        self._seen = posts
        return True


if sys.platform.startswith("linux"):
    Wakeup = SemaphoreWakeup
    wakeup_post = semaphore_post
else:
    Wakeup = PollingWakeup
    wakeup_post = counter_post
