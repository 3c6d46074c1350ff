"""What figures of speed were measured on, in the words that are kept beside them."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

NAMED = ("torch", "numpy", "numba", "BS-RoFormer", "HS-TasNet")


def processor() -> str:
    """The processor's name as Linux tells it. Threads: any."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def versions() -> dict[str, str]:
    """Python, and those of NAMED that are installed. Threads: any."""
    found = {"python": platform.python_version()}
    for name in NAMED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def driver() -> str:
    """Version of NVIDIA's driver, as its own tool tells it; empty without the tool, and where that hangs, as
    it may beside a GPU that is lost. Threads: any."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said[0] if said else ""


def machine() -> dict[str, object]:
    """Processor, system, GPU (None: none), its driver and versions, as plain JSON values. Threads: any."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts: dict[str, object] = {"processor": processor(), "system": platform.platform(), "gpu": gpu}
    if gpu:
        facts["driver"] = driver()
    return facts | {"versions": versions()}
