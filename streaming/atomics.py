"""Atomic access to int64 words in shared memory, for compiled code.

A *release* store is seen only after everything that its thread did before it; an *acquire* load is done
before everything that its thread does after it. x86 gives both for nothing, ARM does not (`stlr`, `ldar`):
who shares a word with another thread or process goes through these functions, whatever the machine at hand
forgives.

Threads: any.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD_BYTES = 8

Generator = Callable[..., Any]


def _intrinsic(define: Generator) -> Generator:
    # Numba types an intrinsic as it is defined, not as it is called.
    return intrinsic(define)


def _is_words(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.dtype == types.int64


def _word_pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array_type = signature.args[0]
    array = context.make_array(array_type)(context, builder, args[0])
    return cgutils.get_item_pointer(  # type: ignore[no-untyped-call]
        context, builder, array_type, array, [args[1]]
    )


@_intrinsic
def load_acquire(typing_context: Any, array: Any, index: Any) -> tuple[Any, Generator] | None:
    """`load_acquire(array, index) -> int64`: array[index], before everything that follows."""
    if not _is_words(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _word_pointer(context, builder, signature, args)
        return builder.load_atomic(pointer, "acquire", WORD_BYTES, typ=ir.IntType(64))

    return types.int64(array, types.intp), generate


@_intrinsic
def store_release(typing_context: Any, array: Any, index: Any, value: Any) -> tuple[Any, Generator] | None:
    """`store_release(array, index, value)`: array[index] = value, after everything that came before."""
    if not _is_words(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _word_pointer(context, builder, signature, args)
        builder.store_atomic(args[2], pointer, "release", WORD_BYTES)
        return context.get_dummy_value()

    return types.none(array, types.intp, types.int64), generate


@_intrinsic
def fetch_add(typing_context: Any, array: Any, index: Any, value: Any) -> tuple[Any, Generator] | None:
    """`fetch_add(array, index, value) -> int64`: array[index] += value in one step; what it was before."""
    if not _is_words(array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _word_pointer(context, builder, signature, args)
        return builder.atomic_rmw("add", pointer, args[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), generate


@_intrinsic
def fence(typing_context: Any) -> tuple[Any, Generator]:
    """`fence()`: earlier loads come before all that follows, earlier stores before later stores."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("acq_rel")
        return context.get_dummy_value()

    return types.none(), generate


@_intrinsic
def address_as_pointer(typing_context: Any, address: Any) -> tuple[Any, Generator]:
    """`address_as_pointer(address) -> voidptr`: for `numba.carray`, from an address kept as a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate
