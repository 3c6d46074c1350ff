"""`model` runs with torch, einops, numpy and safetensors alone."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import model

BLOCKED = (
    "streaming",
    "host",
    "numba",
    "llvmlite",
    "sounddevice",
    "pedalboard",
    "pythonosc",
    "soxr",
    "click",
    "rich",
    "matplotlib",
    "yaml",
    "httpx",
    "bs_roformer",
    "librosa",
    "scipy",
    "soundfile",
)
COMPILED = {"model.kernels", "model.compiled_hop"}
"""What needs Numba; where that is missing, `capture_hop` does without them (test_graph)."""

SCRIPT = """
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError("not allowed in model: " + name)
sys.meta_path.insert(0, Wall())
for name in {names!r}:
    importlib.import_module(name)
"""


def test_every_module_imports_without_the_other_rooms() -> None:
    names = [module.name for module in pkgutil.walk_packages(model.__path__, "model.")]
    names = [name for name in names if name not in COMPILED]
    assert {"model.separators", "model.roformer", "model.offline"} <= set(names)
    script = SCRIPT.format(blocked=BLOCKED, names=names)
    root = Path(model.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
