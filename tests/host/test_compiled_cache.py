"""What is compiled once is known to be there when it is."""

import os
import subprocess
import sys

import numba

from host import compiled_cache
from host.compiled_cache import cache_is_warm

WARM = "from host.compiled_cache import cache_is_warm; print(cache_is_warm())"

SEPARATE = """
import streaming.callback
from model.causal import CausalBSRoformer
from model.config import CausalConfig
from model.separators import CausalSeparator

CausalSeparator(CausalBSRoformer(CausalConfig(depth=1))).warm_up()
"""


def told(code: str, **changed: str) -> str:
    """What a new process prints that has these environment variables."""
    environment = os.environ | changed
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def test_the_cache_is_warm_once_callback_and_hop_were_compiled(tmp_path) -> None:
    assert told(WARM, NUMBA_CACHE_DIR=str(tmp_path)) == "False"
    told(SEPARATE)  # into the cache of all tests: compiling takes a minute
    assert told(WARM) == "True"


def test_half_a_cache_is_not_warm(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    for module, function in compiled_cache.PARTS:
        assert not cache_is_warm()
        (tmp_path / f"{module}.{function}-1.py{sys.version_info.major}{sys.version_info.minor}.nbi").touch()
    assert cache_is_warm()
