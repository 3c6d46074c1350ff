"""Gates on LLVM IR: no allocation, no raise path, no interpreter, atomics present."""

import re

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from numba import carray, types

from streaming.atomics import address_as_pointer, fence, fetch_add, load_acquire, store_release
from streaming.compiled import compiled
from streaming.fades import blend
from streaming.timeline import (
    HEADER_WORDS,
    timeline_end,
    timeline_epoch,
    timeline_read,
    timeline_start,
    timeline_write,
)
from streaming.wakeup import WORDS, counter_post, semaphore_post
from tests.streaming.ir import count, forbidden_symbols

CAPACITY = 4096


@compiled
def words_at(address, words):
    return carray(address_as_pointer(address), (words,), np.int64)


@compiled
def audio_at(address, frames):
    return carray(address_as_pointer(address), (2, frames), np.float32)


@compiled
def write_block(header, data, block, frames):
    words = words_at(header, HEADER_WORDS)
    timeline_write(words, audio_at(data, CAPACITY), timeline_end(words), audio_at(block, frames), frames)
    return timeline_start(words) + timeline_epoch(words)


@compiled
def read_block(header, data, block, frames):
    audio = audio_at(data, CAPACITY)
    out = audio_at(block, frames)
    valid_from, valid_to = timeline_read(words_at(header, HEADER_WORDS), audio, 77, out, frames)
    return valid_to - valid_from


@compiled
def post_both(semaphore, counter, _unused, _frames):
    semaphore_post(words_at(semaphore, WORDS))
    counter_post(words_at(counter, WORDS))
    return 0


@compiled
def fade_block(block, _b, _c, frames):
    audio = audio_at(block, frames)
    for i in range(frames):
        audio[0, i] = blend(audio[0, i], audio[1, i], i / frames)
    return 0


@compiled
def touch_words(address, _b, _c, frames):
    words = words_at(address, WORDS)
    store_release(words, 1, frames)
    fence()
    return load_acquire(words, 1) + fetch_add(words, 2, 5)


def as_callback(function):
    def callback(a, b, c, frames):
        return function(a, b, c, frames)

    signature = types.int64(types.int64, types.int64, types.int64, types.int64)
    return numba.cfunc(signature, error_model="numpy")(callback)


@pytest.mark.parametrize("function", [write_block, read_block, post_both, fade_block, touch_words])
def test_callbacks_name_no_allocation_no_raise_and_no_interpreter(function):
    assert forbidden_symbols(as_callback(function)) == []


def allocating(a, b, c, frames):
    return np.zeros(frames)[0]


def raising(a, b, c, frames):
    if frames > 1000:
        raise ValueError
    return 0


@pytest.mark.parametrize(("function", "symbol"), [(allocating, "NRT_Mem"), (raising, "numba_")])
def test_the_gate_sees_what_it_must_not_miss(function, symbol):
    found = forbidden_symbols(
        as_callback(compiled(function) if function is raising else numba.njit(function))
    )
    assert any(name.startswith(symbol) for name in found)


def test_the_writer_claims_then_fences_then_publishes():
    callback = as_callback(write_block)
    assert count(callback, r"store atomic i64 .* release") == 7
    assert count(callback, r"fence acq_rel") == 2
    assert count(callback, r"load atomic i64, .* acquire") >= 4


def test_the_reader_fences_and_looks_again():
    callback = as_callback(read_block)
    assert count(callback, r"load atomic i64, .* acquire") == 6
    assert count(callback, r"fence acq_rel") == 1


def test_words_are_touched_atomically():
    callback = as_callback(touch_words)
    assert count(callback, r"store atomic i64 .* release") == 1
    assert count(callback, r"load atomic i64, .* acquire") == 1
    assert count(callback, r"atomicrmw add .* acq_rel") == 1
    assert count(callback, r"fence acq_rel") == 1


def arm_assembly(cfunc):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    portable = re.sub(
        r'target (triple|datalayout) = .*|"target-(cpu|features)"="[^"]*"', "", cfunc.inspect_llvm()
    )
    machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine()
    module = llvm.parse_assembly(portable)
    module.triple = machine.triple
    return machine.emit_assembly(module)


@pytest.mark.parametrize(
    ("function", "barriers"),
    [(write_block, {"stlr": 7, "dmb": 2}), (read_block, {"ldar": 6, "dmb": 1})],
)
def test_a_machine_with_weak_memory_order_gets_its_barriers(function, barriers):
    assembly = arm_assembly(as_callback(function))
    assert {name: len(re.findall(rf"\b{name}\b", assembly)) for name in barriers} == barriers


def test_the_copies_are_vectors():
    assert count(as_callback(read_block), r"store <\d+ x float>") > 0


def test_compiled_callbacks_do_what_python_does():
    header, semaphore = np.zeros(HEADER_WORDS, np.int64), np.zeros(WORDS, np.int64)
    data, block = np.zeros((2, CAPACITY), np.float32), np.ones((2, 200), np.float32)
    addresses = [array.ctypes.data for array in (header, data, block)]
    as_callback(write_block).ctypes(*addresses, 200)
    block[:] = 0
    assert as_callback(read_block).ctypes(*addresses, 200) == 123
    assert block[:, :123].all() and not block[:, 123:].any()
    assert as_callback(touch_words).ctypes(semaphore.ctypes.data, 0, 0, 7) == 7
    assert list(semaphore[:3]) == [0, 7, 5]
