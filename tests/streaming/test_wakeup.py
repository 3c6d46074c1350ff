import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streaming.segment import Field, Segment
from streaming.wakeup import WORDS, PollingWakeup, SemaphoreWakeup

ROOT = Path(__file__).parents[2]
ROUNDS = 2000
LONG_S = 20.0
KINDS = [
    pytest.param(
        SemaphoreWakeup,
        marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no process-shared semaphores"),
    ),
    PollingWakeup,
]


def new_words():
    return np.zeros(WORDS, np.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_a_post_before_the_wait_is_not_missed(kind):
    wakeup = kind(new_words(), create=True)
    assert not wakeup.wait(0.0)
    wakeup.post()
    assert wakeup.wait(0.0)
    assert not wakeup.wait(0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_many_posts_are_one_wake_up(kind):
    wakeup = kind(new_words(), create=True)
    for _ in range(1000):
        wakeup.post()
    assert wakeup.wait(0.0)
    assert not wakeup.wait(0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_waiter_that_joins_late_sees_the_post(kind):
    words = new_words()
    kind(words, create=True).post()
    assert kind(words, create=False).wait(0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_wait_lets_other_threads_run(kind):
    wakeup = kind(new_words(), create=True)
    poster = threading.Timer(0.05, wakeup.post)
    poster.start()
    assert wakeup.wait(LONG_S)
    poster.join()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
@pytest.mark.parametrize("kind", KINDS)
def test_signals_neither_end_the_wait_nor_lose_the_post(kind):
    wakeup = kind(new_words(), create=True)
    alarms = []

    def on_alarm(_number, _frame):
        alarms.append(1)
        if len(alarms) == 5:
            wakeup.post()

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        assert wakeup.wait(LONG_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(alarms) >= 5


ANSWER = """
import sys
from streaming import wakeup
from streaming.segment import Segment
segment = Segment.attach(sys.argv[1])
kind = getattr(wakeup, sys.argv[2])
ask, answer = (kind(segment.array(name), create=False) for name in ("ask", "answer"))
for number in range(int(sys.argv[3])):
    assert ask.wait(20.0), f"missed question {number}"
    segment.array("count")[0] += 1
    answer.post()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_never_miss_a_post(kind):
    fields = [Field(name, (WORDS,), "int64") for name in ("ask", "answer", "count")]
    segment = Segment.create(fields, {})
    ask, answer = (kind(segment.array(name), create=True) for name in ("ask", "answer"))
    command = [sys.executable, "-c", ANSWER, segment.name, kind.__name__, str(ROUNDS)]
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        for number in range(ROUNDS):
            ask.post()
            assert answer.wait(LONG_S), f"missed answer {number}"
            assert segment.array("count")[0] == number + 1
        assert child.wait(LONG_S) == 0
    finally:
        child.kill()
        child.wait()
        segment.close()
        segment.unlink()


def wait_forever(words):
    SemaphoreWakeup(words, create=False).wait(LONG_S)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no process-shared semaphores")
def test_a_waiter_that_was_killed_leaves_a_usable_semaphore():
    segment = Segment.create([Field("words", (WORDS,), "int64")], {})
    wakeup = SemaphoreWakeup(segment.array("words"), create=True)
    pid = os.fork()
    if pid == 0:
        wait_forever(segment.array("words"))
        os._exit(0)
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wakeup.post()
    assert wakeup.wait(LONG_S)
    segment.close()
    segment.unlink()
