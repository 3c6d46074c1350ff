"""`process_block` as C sees it, and the Python object that holds its memory alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray, cfunc, types  # type: ignore[attr-defined]
from numpy.typing import NDArray

from streaming.block import (
    BLOCK,
    DRY,
    FADE_S,
    RAMP_S,
    RAW,
    WET,
    process_block,
    resolve_faders,
)
from streaming.compiled import compiled
from streaming.health import CALLBACK
from streaming.separator import Audio
from streaming.session import MAX_CHANNELS, Session
from streaming.snapshot import neutral_controls
from streaming.timeline import Timeline


@compiled
def process_pointers(userdata: Any, device_in: Any, device_out: Any, frames: int, flags: int) -> None:
    """The block behind C pointers; its record says how many channels the device has."""
    block = carray(userdata, (1,), BLOCK)[0]
    source = carray(device_in, (frames, block.device_inputs), np.float32)
    target = carray(device_out, (frames, block.device_outputs), np.float32)
    process_block(block, source, target, flags)


# PaStreamCallback: input, output, frames, time info, flags, user data. Windows: 32 bits in `unsigned long`.
ULONG = types.uint32 if np.dtype("L").itemsize == 4 else types.uint64
STREAM_CALLBACK = types.int32(types.voidptr, types.voidptr, ULONG, types.voidptr, ULONG, types.voidptr)


def _stream_callback(
    device_in: Any, device_out: Any, frames: Any, _time_info: Any, flags: Any, userdata: Any
) -> np.int32:
    process_pointers(userdata, device_in, device_out, np.int64(frames), np.int64(flags))  # type: ignore[arg-type]
    return np.int32(0)


stream_callback = cfunc(STREAM_CALLBACK, error_model="numpy", cache=True)(_stream_callback)
"""The compiled PortAudio stream callback; its user data is `Engine.userdata`."""


class ChannelMapError(ValueError):
    """Channels that the device does not have."""


def _checked_map(channel_map: Sequence[int], channels: int, device_channels: int, what: str) -> list[int]:
    if len(channel_map) != channels or not all(0 <= c < device_channels for c in channel_map):
        raise ChannelMapError(
            f"{what} channels {list(channel_map)}: name {channels} of the device's {device_channels}, from 0"
        )
    return [*channel_map, *[0] * (MAX_CHANNELS - channels)]


class Engine:
    """The memory of one running `process_block`, and its two doors: the C callback and `process`.

    Parameters
    ----------
    session : the shared memory of the run; keep it open as long as the engine is used
    input_map, output_map : the device channel of each engine channel; for a mono input both may be 0
    device_inputs, device_outputs : channels of the device's interleaved buffers

    Attributes
    ----------
    userdata : int64; its address is the C callback's user data

    Errors: ChannelMapError.

    Threads: one caller at a time, the device's.
    """

    def __init__(
        self,
        session: Session,
        input_map: Sequence[int] = (0, 1),
        output_map: Sequence[int] = (0, 1),
        device_inputs: int = 2,
        device_outputs: int = 2,
    ) -> None:
        channels = session.spec.channels
        block = np.empty(1, BLOCK)
        block.view(np.int64).fill(0)  # have the pages now, not in the callback
        block["input_map"] = _checked_map(input_map, channels, device_inputs, "input")
        block["output_map"] = _checked_map(output_map, channels, device_outputs, "output")
        block["device_inputs"], block["device_outputs"] = device_inputs, device_outputs
        self._session, self._block = session, block
        self.userdata: NDArray[np.int64] = block.view(np.int64)
        self._set_sizes()
        self._set_addresses()
        self._take_over_controls()
        self._take_over_plan()

    def _set_sizes(self) -> None:
        spec, block = self._session.spec, self._block
        block["stems"], block["channels"], block["capacity_frames"] = (
            spec.stems,
            spec.channels,
            spec.capacity_frames,
        )
        block["sample_rate_hz"] = spec.sample_rate_hz
        block["hop_frames"], block["hop_phase_frames"] = spec.hop_frames, spec.hop_phase_frames
        block["fade_frames"] = round(FADE_S * spec.sample_rate_hz)
        block["ramp_frames"] = round(RAMP_S * spec.sample_rate_hz)
        block["stem_fades"][0, :, 0] = block["fade_frames"]
        block["last_late_hop"] = np.iinfo(np.int64).min // 2
        block["limiter_gain"] = 1.0

    def _set_addresses(self) -> None:
        session, block = self._session, self._block
        self._set_timeline(DRY, session.dry)
        for s, chained in enumerate(session.spec.chained):
            self._set_timeline(RAW + s, session.raw[s])
            if chained:
                self._set_timeline(WET + s, session.wet[s])
        for name, snapshot in {"controls": session.controls, "plan": session.plan}.items():
            block[f"{name}_header"] = snapshot.header.ctypes.data
            block[f"{name}_slots"] = snapshot.slots.ctypes.data
        block["counters"] = session.health.counters[CALLBACK].ctypes.data
        block["peaks"] = session.health.peaks.ctypes.data
        block["wake_separator"] = session.segment.array("wake.separator").ctypes.data

    def _set_timeline(self, row: int, timeline: Timeline) -> None:
        self._block["timeline_headers"][0, row] = timeline.header.ctypes.data
        self._block["timeline_data"][0, row] = timeline.data.ctypes.data

    def _take_over_controls(self) -> None:
        """Start from the faders as they are: nothing to ramp from."""
        block, latest = self._block, self._session.controls.latest()
        controls = neutral_controls() if latest is None else latest
        block["controls"][0, 0] = controls.view(np.int64)
        resolve_faders(block[0])
        block["ramps"][0, :, :2] = block["targets"][0][:, None]

    def _take_over_plan(self) -> None:
        """Start in the epoch that is planned, without a fade."""
        block, plan = self._block, self._session.plan.latest()
        if plan is None or plan["epoch"][0] == 0:
            return
        block["plan"][0, 0] = plan.view(np.int64)
        block["epoch"], block["latency_frames"] = plan["epoch"], plan["latency_frames"]
        block["fade_walked"] = block["fade_frames"]

    def process(self, device_in: Audio, device_out: Audio, flags: int = 0) -> None:
        """Work one block from Python, through the very callback that a device is given.

        `device_in` [inputs, frames] to `device_out` [outputs, frames], float32.
        """
        source = np.ascontiguousarray(device_in.T, np.float32)
        frames = source.shape[0]
        target = np.empty((frames, int(self._block["device_outputs"][0])), np.float32)
        stream_callback.ctypes(
            source.ctypes.data, target.ctypes.data, frames, None, flags, self.userdata.ctypes.data
        )
        device_out[:] = target.T
