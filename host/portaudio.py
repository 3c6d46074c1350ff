"""PortAudio: which devices there are, and a duplex stream whose callback is compiled code.

The stream is opened through `sounddevice._StreamBase`, which takes a C function pointer; its contract is
held by tests and by the pinned version. JACK is one more host API here, there if its server ran at the start.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from streaming.separator import Audio

if TYPE_CHECKING:
    from streaming.callback import Engine

JACK = "JACK Audio Connection Kit"  # the host API's name

Kind = Literal["input", "output"]
CallbackKind = Literal["compiled", "python"]

USUAL_RATES_HZ = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)

# PaErrorCode
INVALID_CHANNELS, INVALID_RATE, INVALID_DEVICE = -9998, -9997, -9996
DEVICE_UNAVAILABLE = -9985


_left_behind: list[object] = []  # libraries whose code a dead JACK client may still call: never unloaded


class DeviceError(RuntimeError):
    """A sound device cannot be had, in one line: what, why, what to do."""


@dataclass(frozen=True)
class DeviceInfo:
    """One device as PortAudio sees it. The rate is the device's own default."""

    index: int
    name: str
    api: str
    inputs: int
    outputs: int
    rate_hz: int
    default_input: bool
    default_output: bool

    def channels(self, kind: Kind) -> int:
        return self.inputs if kind == "input" else self.outputs

    def is_default(self, kind: Kind) -> bool:
        return self.default_input if kind == "input" else self.default_output

    def __str__(self) -> str:
        return f"{self.index} '{self.name}' ({self.api})"


@dataclass(frozen=True)
class StreamSettings:
    """What to open. Devices by index, by (part of) the name or None for the default; channels count from 0.

    `block_frames` 0 takes whatever count the device gives, which adds no latency; a fixed one adds itself.
    """

    rate_hz: int = 44100
    input_device: int | str | None = None
    output_device: int | str | None = None
    input_channels: tuple[int, ...] = (0, 1)
    output_channels: tuple[int, ...] = (0, 1)
    block_frames: int = 0

    @property
    def device_inputs(self) -> int:
        """Channels the device is opened with: PortAudio gives the first ones only."""
        return max(self.input_channels) + 1

    @property
    def device_outputs(self) -> int:
        return max(self.output_channels) + 1


@dataclass(frozen=True)
class CompiledCallback:
    """A C function and its user data; the function lives as long as its module, the array as long as this."""

    address: int
    userdata: NDArray[np.int64]


PythonCallback = Callable[[Audio, Audio, int], None]
"""`(device_in [inputs, frames], device_out [outputs, frames], flags)`: `Engine.process` is one."""


def engine_callback(engine: Engine, kind: CallbackKind = "compiled") -> CompiledCallback | PythonCallback:
    """The door of `engine` that a stream calls; the Python one waits for the interpreter (>= 512 frames)."""
    if kind == "python":
        return engine.process
    # compiled on first import: a list of devices should not wait for it
    from streaming.callback import stream_callback

    return CompiledCallback(int(stream_callback.address or 0), engine.userdata)


@functools.cache
def library() -> Any:
    """The sounddevice module. Errors: DeviceError where PortAudio is not installed."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"PortAudio could not be loaded ({error}): install it"
            " (Debian and Ubuntu: apt-get install libportaudio2)."
        ) from None
    return sounddevice


def rescan() -> None:
    """Look for devices again. Every open stream must be closed before.

    Threads: the one that opens streams.
    """
    library()._terminate()
    library()._initialize()


def leave() -> None:
    """Leave PortAudio as it is, with a dead JACK stream in it, also at the end of the program.

    PortAudio closes a JACK stream inside that stream's next block and waits ten minutes for it (`pa_jack.c`:
    RealStop, WaitCondition), so one whose server hangs or has gone must not be closed.
    """
    library()._initialized = 0


def renew() -> None:
    """Leave PortAudio with its dead JACK stream and load a second copy of it, which scans for devices.

    Raises
    ------
    DeviceError
        The library cannot be loaded twice here.
    """
    leave()
    sd = library()
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    path = next((line.split()[-1] for line in lines if "libportaudio" in line), None)
    if path is None:
        raise DeviceError("The JACK server has gone and its stream cannot be closed: start stembridge again.")
    with tempfile.NamedTemporaryFile(prefix="libportaudio-", suffix=".so") as copy:
        shutil.copyfile(path, copy.name)
        _left_behind.append(sd._lib)
        sd._lib = sd._ffi.dlopen(copy.name)
    sd._initialize()


def list_devices() -> list[DeviceInfo]:
    """All devices, in PortAudio's order, as of the last scan."""
    apis = library().query_hostapis()
    return [_device_info(index, raw, apis) for index, raw in enumerate(library().query_devices())]


def _device_info(index: int, raw: dict[str, Any], apis: tuple[dict[str, Any], ...]) -> DeviceInfo:
    api = apis[raw["hostapi"]]
    return DeviceInfo(
        index=index,
        name=raw["name"],
        api=api["name"],
        inputs=raw["max_input_channels"],
        outputs=raw["max_output_channels"],
        rate_hz=round(raw["default_samplerate"]),
        default_input=index == api["default_input_device"],
        default_output=index == api["default_output_device"],
    )


def find_device(wanted: int | str | None, kind: Kind, devices: Iterable[DeviceInfo]) -> DeviceInfo:
    """The device meant by an index, a name, a part of "name api" (any case), or None for the default.

    Where a part fits several devices, the default of a host API is preferred ("jack" is JACK's `system`).

    Raises
    ------
    DeviceError
        No device, or more than one, is meant; the message lists them.
    """
    able = [device for device in devices if device.channels(kind) > 0]
    if not able:
        raise DeviceError(f"No audio {kind} device was found: connect one, or start JACK or PipeWire.")
    if wanted is None:
        return _default_device(kind, able)
    fitting = _fitting(wanted, able)
    chosen = fitting if len(fitting) == 1 else [device for device in fitting if device.is_default(kind)]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(map(str, fitting or able))
    why = "More than one" if fitting else "No"
    raise DeviceError(f"{why} {kind} device fits '{wanted}'; choose by number or name. Known: {known}.")


def _default_device(kind: Kind, able: list[DeviceInfo]) -> DeviceInfo:
    default = library().default.device[0 if kind == "input" else 1]
    return next((device for device in able if device.index == default), able[0])


def _fitting(wanted: int | str, able: list[DeviceInfo]) -> list[DeviceInfo]:
    if isinstance(wanted, int) or wanted.isdecimal():
        return [device for device in able if device.index == int(wanted)]
    exact = [device for device in able if device.name == wanted]
    needle = wanted.casefold()
    return exact or [device for device in able if needle in f"{device.name} {device.api}".casefold()]


def open_stream(
    settings: StreamSettings,
    callback: CompiledCallback | PythonCallback,
    source: DeviceInfo,
    target: DeviceInfo,
) -> Any:
    """Open (and do not start) a duplex float32 stream from `source` to `target`.

    Returns sounddevice's stream: start(), stop(), abort(), close().

    Raises
    ------
    DeviceError
        Too few channels, a refused rate, a busy or vanished device.
    """
    _check_channels(source, "input", settings.device_inputs)
    _check_channels(target, "output", settings.device_outputs)
    try:
        stream = library()._StreamBase(
            kind="duplex",
            samplerate=settings.rate_hz,
            blocksize=settings.block_frames,
            device=(source.index, target.index),
            channels=(settings.device_inputs, settings.device_outputs),
            dtype="float32",
            latency="low",
            **_callback_arguments(callback),
        )
    except library().PortAudioError as error:
        raise explain(error, settings, source, target) from None
    stream.keeps_alive = callback  # the C side holds only addresses
    return stream


def _check_channels(device: DeviceInfo, kind: Kind, wanted: int) -> None:
    if wanted > device.channels(kind):
        raise DeviceError(
            f"Device {device} has {device.channels(kind)} {kind} channels, channel {wanted} was asked for:"
            " choose lower channels or another device."
        )


def _callback_arguments(callback: CompiledCallback | PythonCallback) -> dict[str, Any]:
    if isinstance(callback, CompiledCallback):
        ffi = library()._ffi
        return {
            "callback": ffi.cast("PaStreamCallback *", callback.address),
            "userdata": ffi.cast("void *", callback.userdata.ctypes.data),
            "wrap_callback": None,
        }

    def process(device_in: Audio, device_out: Audio, _frames: int, _time: object, status: Any) -> None:
        callback(device_in.T, device_out.T, status._flags)

    return {"callback": process, "wrap_callback": "array"}


def explain(
    error: Exception, settings: StreamSettings, source: DeviceInfo, target: DeviceInfo
) -> DeviceError:
    """PortAudio's error code in words, with what to do."""
    code = error.args[1] if len(error.args) > 1 else 0
    pair = str(source) if source == target else f"{source} to {target}"
    if code == INVALID_RATE:
        rates = ", ".join(map(str, accepted_rates_hz(settings, source, target))) or "none of the usual ones"
        return DeviceError(f"{settings.rate_hz} Hz is refused by {pair}; it takes: {rates}. Use --rate.")
    if code in (DEVICE_UNAVAILABLE, INVALID_DEVICE):
        return DeviceError(f"{pair} is busy or gone: end the program that holds it, or plug it in.")
    if code == INVALID_CHANNELS:
        counts = f"{settings.device_inputs} inputs and {settings.device_outputs} outputs"
        return DeviceError(f"{pair} does not take {counts}: choose other channels.")
    reason = " ".join(str(error).split())
    return DeviceError(f"{pair} cannot be opened ({reason}): choose another, see `stembridge devices`.")


def accepted_rates_hz(settings: StreamSettings, source: DeviceInfo, target: DeviceInfo) -> list[int]:
    """The usual rates that both devices say they take."""
    return [rate for rate in USUAL_RATES_HZ if _takes_rate(rate, settings, source, target)]


def _takes_rate(rate_hz: int, settings: StreamSettings, source: DeviceInfo, target: DeviceInfo) -> bool:
    sd = library()
    try:
        sd.check_input_settings(source.index, settings.device_inputs, "float32", samplerate=rate_hz)
        sd.check_output_settings(target.index, settings.device_outputs, "float32", samplerate=rate_hz)
    except sd.PortAudioError:
        return False
    return True
