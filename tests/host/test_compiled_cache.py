"""What is compiled once is known to be there when it is."""

import os
import subprocess
import sys

import numba

from host import compiled_cache
from host.compiled_cache import cache_is_warm

SEPARATE = """
import numpy as np
import streaming.callback
from host.compiled_cache import cache_is_warm
from model.causal import CausalBSRoformer
from model.config import CausalConfig
from model.separators import CausalSeparator

before = cache_is_warm()
CausalSeparator(CausalBSRoformer(CausalConfig(depth=1))).warm_up()
print(before, cache_is_warm())
"""


def test_the_cache_is_warm_once_callback_and_hop_were_compiled(tmp_path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", SEPARATE], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert told == [["False", "True"], ["True", "True"]]


def test_half_a_cache_is_not_warm(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    for module, function in compiled_cache.PARTS:
        assert not cache_is_warm()
        (tmp_path / f"{module}.{function}-1.py{sys.version_info.major}{sys.version_info.minor}.nbi").touch()
    assert cache_is_warm()
