"""The benchmark of a GPU's ways: own kernels get the block sizes that were fastest, or the usual ones."""

import importlib.util
import os
import subprocess
import sys

import pytest

from benchmarks import gpu_paths
from benchmarks.gpu_tiles import ATTENTION_TILES, BANDS, GELU_CHOICES, GELU_TILES, TIME

TIMES = [
    {"part": "turns, attention over time, gates", "of": "slow", "us": 3.0},
    {"part": "turns, attention over time, gates", "of": "fast", "us": 2.0},
    {"part": "turns, attention over time, gates", "of": "failed", "trouble": "out of resources"},
    {"part": "widen and GELU", "of": GELU_CHOICES[2], "us": 30.0},
]


def test_own_kernels_get_the_fastest_blocks():
    own = gpu_paths.ways(TIMES)["own kernels"].keywords
    assert own["gelu_tiles"] == GELU_CHOICES[2]
    assert own["attention_tiles"] == {TIME: "fast", BANDS: ATTENTION_TILES[BANDS]}


def test_where_no_kernel_ran_the_ways_are_still_tried():
    ways = gpu_paths.ways([])
    assert ways["own kernels"].keywords == {"attention_tiles": ATTENTION_TILES, "gelu_tiles": GELU_TILES}
    assert ways["own kernels, GELU by torch"].keywords["gelu_tiles"] is None
    assert next(iter(ways)) == "compiled regions (shipped)"


@pytest.mark.skipif(
    not importlib.util.find_spec("triton"), reason="Triton is not installed: pip install triton"
)
def test_every_kernel_compiles_for_a_gpu_that_is_not_here():
    """An interpreter lets pass what a compiler refuses."""
    compiling = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.gpu_resources"]
    found = subprocess.run(command, env=compiling, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    lines = found.stdout.splitlines()
    assert all(" registers, " in line for line in lines)
    assert all("wgmma" in line for line in lines if not line.startswith("sum and norms"))
    assert {" ".join(line.split()[:3]) for line in lines} >= {"attention over time", "attention over bands"}
