"""What every own kernel takes of a GPU that need not be here: python -m benchmarks.gpu_resources [--arch 90].

Compiled for that architecture in each block size that `gpu_paths` measures: registers, bytes that spill out
of them, shared memory, and whether products run on the matrix units of a Hopper (wgmma). What cannot be
compiled is a line with its reason, and the exit code is 1. Needs Triton, no driver.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from benchmarks import gpu_kernels
from benchmarks.gpu_tiles import ATTENTION_CHOICES, AXES, GELU_CHOICES, NORM_CHOICES, Tiles
from host.errors import one_line

POSITIONS = 201
"""Of time, in a window of two seconds; 62 bands take no more."""
HALVES, FLOATS, FLOAT = "QKVG OUT Y A W BIAS", "TURNS X BETWEEN GAMMA", "scale"
"""Arguments by type, the others are whole numbers; X is the residual stream."""
ALIGNED = "outer_stride out_outer_stride out_row_stride out_position_stride columns"

Kernel = tuple[str, object, dict[str, object], Tiles]
"""Its name, itself, what is fixed when it is compiled, and its tiles."""


def kernels() -> Iterator[Kernel]:
    """Every own kernel of the largest published shape."""
    for axis, choices in ATTENTION_CHOICES.items():
        for tiles in choices:
            queries, keys = tiles.blocks
            fixed = {"POSITIONS": POSITIONS, "HEADS": 8, "DIM": 64, "BLOCK_DIM": 64}
            name = f"attention over {AXES[axis]}"
            yield name, gpu_kernels._attend, fixed | {"QUERIES": queries, "KEYS": keys}, tiles
    for tiles in GELU_CHOICES:
        blocks = dict(zip(("ROWS", "COLUMNS", "STEP"), tiles.blocks, strict=True))
        yield "widen and GELU", gpu_kernels._linear_gelu, {"K": 384, "GROUP": 8} | blocks, tiles
    for tiles in NORM_CHOICES:
        fixed = {"DIM": 384, "BLOCK": 512, "ROWS": tiles.blocks[0], "ADDS": True, "TWICE": True}
        yield "sum and norms", gpu_kernels._norm, fixed, tiles


def resources(kernel: object, fixed: dict[str, object], tiles: Tiles, arch: int) -> str:
    """One line of what a compiled kernel takes. Errors: Triton's."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in fixed else _type(name) for name in names}
    constants = {(names.index(name),): value for name, value in fixed.items()}
    aligned = {(index,): [["tt.divisibility", 16]] for index, name in enumerate(names) if _is_aligned(name)}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    code = compiled.asm["ptx"]
    told = assembled(code, arch)
    registers, spilt = (
        re.search(what, told) for what in (r"Used (\d+) registers", r"(\d+) bytes spill stores")
    )
    return (
        f"{registers[1]:>3} registers, {spilt[1]:>4} bytes spilt, {compiled.metadata.shared:>6} bytes shared"
        f"{', wgmma' if 'wgmma.mma_async' in code else ''}"
    )


def assembled(code: str, arch: int) -> str:
    """What the assembler says of a kernel."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(code)
        revision = "a" if arch >= 90 else ""
        command = [get_ptxas(arch).path, "-v", f"--gpu-name=sm_{arch}{revision}", source, "-o", "/dev/null"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def _type(name: str) -> str:
    if name in HALVES.split():
        return "*fp16"
    if name in FLOATS.split():
        return "*fp32"
    return "fp32" if name == FLOAT else "i32"


def _is_aligned(name: str) -> bool:
    return name in f"{HALVES} {FLOATS} {ALIGNED}".split()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, default=90, help="compute capability (default: %(default)s)")
    arch, failed = parser.parse_args().arch, False
    for name, kernel, fixed, tiles in kernels():
        try:
            told = resources(kernel, fixed, tiles, arch)
        except Exception as error:  # a compiler's, of any kind: the others are worth knowing
            told, failed = f"not compiled: {one_line(error)[-300:]}", True
        print(f"{name:20} {tiles!s:36} {told}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
