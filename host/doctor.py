"""What stembridge needs on this machine: what is there, what is missing, how to get it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY_MB = 64
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
LEAST_CPUS = 2


@dataclass(frozen=True)
class Finding:
    """One row: `ok` False means that something is missing; `remedy` says how to get it.

    `figures` are what was measured, for programs to read.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Every check, in the order in which a user meets the things. Never raises.

    Threads: any.
    """
    return [_attempt(name, check) for name, check in CHECKS.items()]


def _attempt(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Finding(name, False, f"could not be checked ({reason})", "report this")


def check_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def check_torch() -> Finding:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Finding("torch", False, str(error).splitlines()[0], "pip install 'torch>=2.10'")
    trouble = importlib.import_module("model.devices").cuda_trouble()
    cuda = f"no CUDA ({trouble}), runs on the CPU" if trouble else "CUDA"
    return Finding("torch", True, f"{torch.__version__}, {cuda}")


def check_portaudio() -> Finding:
    from host.portaudio import DeviceError, library

    try:
        version = library().get_portaudio_version()[1]
    except DeviceError:
        return Finding(
            "portaudio", False, "cannot be loaded", "apt-get install libportaudio2 (files need none)"
        )
    return Finding("portaudio", True, version.split(",")[0])


def check_devices() -> Finding:
    from host.portaudio import DeviceError, list_devices

    remedy = "connect a sound card or start JACK or PipeWire (files need none)"
    try:
        devices = list_devices()
    except DeviceError:
        return Finding("sound devices", False, "unknown without PortAudio", remedy)
    inputs, outputs = sum(d.inputs > 0 for d in devices), sum(d.outputs > 0 for d in devices)
    return Finding("sound devices", bool(inputs and outputs), f"{inputs} in, {outputs} out", remedy)


def check_jack() -> Finding:
    server = shutil.which("pw-jack") or shutil.which("jackd") or shutil.which("jackdbus")
    if server is None:
        remedy = "apt-get install jackd2, or pipewire-jack (only to join other audio programs)"
        return Finding("jack", False, "no JACK server or PipeWire's", remedy)
    running = _jack_answers()
    remedy = "start jackd, or run stembridge under pw-jack (only to join other audio programs)"
    return Finding("jack", running, f"{server}, {'' if running else 'not '}running", remedy)


def _jack_answers() -> bool:
    """Whether PortAudio, which looks for a server when it is loaded, found one."""
    from host.portaudio import DeviceError, list_devices

    try:
        return any("JACK" in device.api for device in list_devices())
    except DeviceError:
        return False


def check_compiled_cache() -> Finding:
    """Without a cache every start compiles callback and model anew."""
    import numba

    from host.compiled_cache import cache_is_warm  # chooses the folder

    folder = Path(str(numba.config.CACHE_DIR))  # type: ignore[attr-defined]
    state = "filled" if cache_is_warm() else "empty, the first start takes up to a minute"
    remedy = "set NUMBA_CACHE_DIR to a folder you may write to"
    return Finding("compiled cache", _can_write(folder), f"{folder}, {state}", remedy)


def _can_write(folder: Path) -> bool:
    """Whether files can be made in `folder`, or `folder` in the nearest one above it that exists."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def check_shared_memory() -> Finding:
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", sys.platform != "linux", "this system has its own", "mount /dev/shm")
    free_mb = shutil.disk_usage(SHARED_MEMORY).free >> 20
    remedy = f"mount -o remount,size=256M {SHARED_MEMORY} (docker: --shm-size=256m)"
    return Finding("shared memory", free_mb >= LEAST_SHARED_MEMORY_MB, f"{free_mb} MB free", remedy)


def check_realtime() -> Finding:
    """Whether the audio thread may run before others: tried out on Linux, given elsewhere."""
    if sys.platform != "linux":
        return Finding("real-time priority", True, "given by this system")
    allowed = _may_run_realtime()
    remedy = "put '@audio - rtprio 95' into /etc/security/limits.d/audio.conf, join group audio, log in anew"
    return Finding("real-time priority", allowed, "allowed" if allowed else "not allowed", remedy)


def _may_run_realtime() -> bool:
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, policy, parameters)
    return True


def check_cpus() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("processors", count >= LEAST_CPUS, str(count), "the audio and the model need one each")


def check_governor() -> Finding:
    if not GOVERNOR.exists():
        return Finding("processor speed", True, "not governed here")
    governor = GOVERNOR.read_text().strip()
    return Finding(
        "processor speed", governor != "powersave", governor, "cpupower frequency-set -g performance"
    )


def check_model() -> Finding:
    """Whether the built-in model opens."""
    from host.models import DEFAULT_MODEL, describe

    try:
        facts = describe(DEFAULT_MODEL, 44100)
    except (ValueError, RuntimeError, OSError) as error:
        return Finding("built-in model", False, " ".join(str(error).split()), "install stembridge again")
    return Finding("built-in model", True, f"{', '.join(facts.stem_names)}; {facts.latency_frames} frames")


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": check_python,
    "torch": check_torch,
    "built-in model": check_model,
    "portaudio": check_portaudio,
    "sound devices": check_devices,
    "jack": check_jack,
    "compiled cache": check_compiled_cache,
    "shared memory": check_shared_memory,
    "real-time priority": check_realtime,
    "processors": check_cpus,
    "processor speed": check_governor,
}
