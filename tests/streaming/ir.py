"""What LLVM IR tells about a callback that reading its source does not."""

import re

FORBIDDEN = re.compile(r"@(NRT_\w+|Py\w+|_Py\w+|numba_\w+|malloc|calloc|realloc|free)\b")


def forbidden_symbols(cfunc):
    """Allocation, raising and interpreter calls that a cfunc names, though maybe never reaches."""
    return sorted(set(FORBIDDEN.findall(cfunc.inspect_llvm())))


def count(cfunc, pattern):
    return len(re.findall(pattern, cfunc.inspect_llvm()))
