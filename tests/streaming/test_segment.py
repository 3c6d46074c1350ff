import multiprocessing.shared_memory
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from streaming.segment import Field, Segment, SegmentError

ROOT = Path(__file__).parents[2]
FIELDS = [
    Field("odd", (3,), "uint8"),
    Field("audio", (2, 65), "float32"),
    Field("words", (8,), "int64"),
    Field("none", (0, 4), "float32"),
]


@pytest.fixture
def segment():
    made = Segment.create(FIELDS, {"rate": 44100, "stems": ["vocals", "übrige"]})
    yield made
    made.close()
    made.unlink()


def run_python(code, *arguments):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_arrays_are_zeroed_aligned_and_apart(segment):
    for field in FIELDS:
        array = segment.array(field.name)
        assert array.shape == field.shape and array.dtype == field.dtype
        assert not array.any() and array.flags.writeable and array.ctypes.data % 64 == 0
        array[...] = 255
    assert (segment.array("words") == 255).all() and (segment.array("audio") == 255).all()


def test_attached_arrays_are_the_same_memory(segment):
    other = Segment.attach(segment.name)
    assert other.info == {"rate": 44100, "stems": ["vocals", "übrige"]}
    segment.array("audio")[1, 64] = 0.25
    assert other.array("audio")[1, 64] == 0.25
    other.close()


def test_names_are_our_own_and_never_the_same(segment):
    other = Segment.create([], {})
    assert re.fullmatch(rf"stembridge-{os.getpid()}-[0-9a-f]{{8}}", segment.name)
    assert other.name != segment.name
    other.close()
    other.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_first_touch_of_any_page_costs_no_page_fault():
    pages = 1024
    made = Segment.create([Field("audio", (pages * 1024,), "float32")], {})
    other = Segment.attach(made.name)
    for segment in (made, other):
        array = segment.array("audio")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        array[::1024] += 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < pages // 8
        segment.close()
    made.unlink()


ATTACH_AND_EXIT = """
import sys
from streaming.segment import Segment
segment = Segment.attach(sys.argv[1])
segment.array("words")[3] += 11
view = segment.array("audio")
if sys.argv[2] == "close":
    segment.close()
"""


@pytest.mark.parametrize("manner", ["close", "leave"])
def test_a_stranger_that_attaches_and_exits_leaves_the_segment_alone(segment, manner):
    for _ in range(2):
        child = run_python(ATTACH_AND_EXIT, segment.name, manner)
        assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
    assert segment.array("words")[3] == 22
    Segment.attach(segment.name).close()


CREATE_ATTACH_UNLINK = """
import multiprocessing
from streaming.segment import Field, Segment

def child(name):
    segment = Segment.attach(name)
    segment.array("words")[0] = 5
    segment.close()

if __name__ == "__main__":
    segment = Segment.create([Field("words", (8,), "int64")], {})
    Segment.attach(segment.name).close()
    process = multiprocessing.get_context("fork").Process(target=child, args=(segment.name,))
    process.start()
    process.join()
    print(segment.name, segment.array("words")[0])
    segment.close()
    segment.unlink()
"""


def test_sharing_a_resource_tracker_with_the_creator_is_silent():
    child = run_python(CREATE_ATTACH_UNLINK)
    name, value = child.stdout.split()
    assert (value, child.stderr) == ("5", "")
    with pytest.raises(SegmentError):
        Segment.attach(name)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes a segment with its last user")
def test_a_killed_creator_leaves_nothing_behind():
    code = """
import os, signal
from streaming.segment import Field, Segment
segment = Segment.create([Field("words", (8,), "int64")], {})
print(segment.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # communicate() waits for the resource tracker too: it holds the same pipe.
    name = run_python(code).stdout.strip()
    assert name
    with pytest.raises(SegmentError):
        Segment.attach(name)


def test_views_outlive_close():
    segment = Segment.create(FIELDS, {})
    audio = segment.array("audio")
    segment.close()
    segment.close()
    segment.unlink()
    segment.unlink()
    audio[:] = 3.0
    assert audio.sum() == 3.0 * audio.size


def test_a_process_that_keeps_views_exits_in_silence():
    code = """
from streaming.segment import Field, Segment
segment = Segment.create([Field("words", (8,), "int64")], {})
view = segment.array("words")
segment.close()
segment.unlink()
"""
    assert run_python(code).stderr == ""


def test_only_the_creator_unlinks(segment):
    other = Segment.attach(segment.name)
    with pytest.raises(SegmentError, match="only its creator"):
        other.unlink()
    other.close()


def test_missing_and_foreign_memory_is_refused_in_one_line():
    with pytest.raises(SegmentError, match="no shared memory 'stembridge-0-00000000'"):
        Segment.attach("stembridge-0-00000000")
    foreign = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    try:
        with pytest.raises(SegmentError, match="not made by stembridge"):
            Segment.attach(foreign.name)
    finally:
        foreign.close()
        foreign.unlink()
