"""`process_block` as C sees it, and the Python object that holds its arrays alive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import carray, cfunc, types  # type: ignore[import-untyped]
from numpy.typing import NDArray

from streaming import block
from streaming.atomics import address_as_pointer
from streaming.block import Arrays, process_block
from streaming.compiled import compiled
from streaming.health import CALLBACK, WORDS
from streaming.separator import Audio
from streaming.session import Session
from streaming.snapshot import CONTROLS, HEADER_WORDS, PLAN, SLOTS, STRIPS, neutral_controls
from streaming.timeline import HEADER_WORDS as TIMELINE_WORDS

CONTROLS_WORDS = CONTROLS.itemsize // 8
PLAN_WORDS = PLAN.itemsize // 8
PIECE = block.PIECE_FRAMES

# The userdata table: these sizes, then the address of every array in the order of `Arrays`.
STEMS, CHANNELS, CAPACITY, DEVICE_IN, DEVICE_OUT, FIRST_ADDRESS = range(6)
TABLE_WORDS = FIRST_ADDRESS + len(Arrays._fields)


@compiled
def words_at(address, shape):  # type: ignore[no-untyped-def]
    return carray(address_as_pointer(address), shape, np.int64)


@compiled
def singles_at(address, shape):  # type: ignore[no-untyped-def]
    return carray(address_as_pointer(address), shape, np.float32)


@compiled
def doubles_at(address, shape):  # type: ignore[no-untyped-def]
    return carray(address_as_pointer(address), shape, np.float64)


@compiled
def arrays_at(table):  # type: ignore[no-untyped-def]
    """Rebuild `Arrays` from the userdata table."""
    s, c, n = table[STEMS], table[CHANNELS], table[CAPACITY]
    at = table[FIRST_ADDRESS:]
    return Arrays(
        words_at(at[0], (block.STATE_WORDS,)),
        words_at(at[1], (TIMELINE_WORDS,)),
        singles_at(at[2], (c, n)),
        words_at(at[3], (s, TIMELINE_WORDS)),
        singles_at(at[4], (s, c, n)),
        words_at(at[5], (s, TIMELINE_WORDS)),
        singles_at(at[6], (s, c, n)),
        words_at(at[7], (s,)),
        words_at(at[8], (HEADER_WORDS,)),
        words_at(at[9], (SLOTS, CONTROLS_WORDS)),
        carray(address_as_pointer(at[10]), (1,), CONTROLS),
        words_at(at[11], (2, CONTROLS_WORDS)),
        words_at(at[12], (HEADER_WORDS,)),
        words_at(at[13], (SLOTS, PLAN_WORDS)),
        words_at(at[14], (2, PLAN_WORDS)),
        words_at(at[15], (WORDS,)),
        singles_at(at[16], (STRIPS + 2,)),
        words_at(at[17], (8,)),
        words_at(at[18], (c,)),
        words_at(at[19], (c,)),
        doubles_at(at[20], (s + 3, 3)),
        doubles_at(at[21], (s + 1,)),
        words_at(at[22], (s,)),
        words_at(at[23], (s, 2)),
        singles_at(at[24], (2, s, c)),
        doubles_at(at[25], (1,)),
        doubles_at(at[26], (s + 3, PIECE)),
        doubles_at(at[27], (s, PIECE)),
        doubles_at(at[28], (1 + c, PIECE)),
        singles_at(at[29], (c, PIECE)),
        singles_at(at[30], (c, PIECE)),
        singles_at(at[31], (s, c, PIECE)),
        singles_at(at[32], (s, c, PIECE)),
        doubles_at(at[33], (c, PIECE)),
    )


@compiled
def process_userdata(userdata, device_in, device_out, frames, flags):  # type: ignore[no-untyped-def]
    """The block behind C pointers; the table says how many channels the device has."""
    table = carray(userdata, (TABLE_WORDS,), np.int64)
    source = carray(device_in, (frames, table[DEVICE_IN]), np.float32)
    target = carray(device_out, (frames, table[DEVICE_OUT]), np.float32)
    process_block(arrays_at(table), source, target, frames, flags)


# PaStreamCallback: input, output, frames, time info, flags, user data. `unsigned long` is 32 bits wide on Windows.
ULONG = types.uint32 if np.dtype("L").itemsize == 4 else types.uint64
STREAM_CALLBACK = types.int32(types.voidptr, types.voidptr, ULONG, types.voidptr, ULONG, types.voidptr)


def _stream_callback(device_in, device_out, frames, _time_info, flags, userdata):  # type: ignore[no-untyped-def]
    process_userdata(userdata, device_in, device_out, np.int64(frames), np.int64(flags))
    return np.int32(0)


stream_callback = cfunc(STREAM_CALLBACK, error_model="numpy", nopython=True, cache=True)(_stream_callback)
"""The compiled PortAudio stream callback; its user data is `Engine.userdata`."""


class Engine:
    """The arrays of one running `process_block`, and its two doors: the C callback and `process`.

    Parameters
    ----------
    session : the shared memory of the run; keep it open as long as the engine is used
    input_map, output_map : the device channel of each engine channel; for a mono input both may be 0
    device_inputs, device_outputs : channels of the device's interleaved buffers

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
        spec = session.spec
        s, c = spec.stems, spec.channels
        if max(input_map) >= device_inputs or max(output_map) >= device_outputs:
            raise ValueError("A channel map names a channel that the device does not have.")
        state = np.zeros(block.STATE_WORDS, np.int64)
        state[block.FADE_FRAMES] = round(block.FADE_S * spec.sample_rate_hz)
        state[block.RAMP_FRAMES] = round(block.RAMP_S * spec.sample_rate_hz)
        state[block.LAST_LATE_HOP] = np.iinfo(np.int64).min // 2
        state[block.HOP], state[block.HOP_PHASE] = spec.hop_frames, spec.hop_phase_frames
        state[block.RATE] = spec.sample_rate_hz
        controls_words = np.zeros((2, CONTROLS_WORDS), np.int64)
        controls = controls_words[0].view(CONTROLS)
        segment = session.segment
        self.arrays = Arrays(
            state=state,
            dry_header=segment.array("dry.headers"),
            dry_data=segment.array("dry.data"),
            raw_headers=segment.array("raw.headers"),
            raw_data=segment.array("raw.data"),
            wet_headers=segment.array("wet.headers"),
            wet_data=segment.array("wet.data"),
            chained=np.array(spec.chained, np.int64),
            controls_header=session.controls.header,
            controls_slots=session.controls.slots,
            controls=controls,
            controls_words=controls_words,
            plan_header=session.plan.header,
            plan_slots=session.plan.slots,
            plan=np.zeros((2, PLAN_WORDS), np.int64),
            counters=session.health.counters[CALLBACK],
            peaks=session.health.peaks,
            wake_separator=segment.array("wake.separator"),
            input_map=np.array(input_map, np.int64),
            output_map=np.array(output_map, np.int64),
            ramps=np.ones((s + 3, 3)),
            targets=np.ones(s + 1),
            silenced=np.zeros(s, np.int64),
            valid=np.zeros((s, 2), np.int64),
            held=np.zeros((2, s, c), np.float32),
            limiter_gain=np.ones(1),
            curves=np.ones((s + 3, PIECE)),
            validity=np.ones((s, PIECE)),
            residual=np.zeros((1 + c, PIECE)),
            incoming=np.zeros((c, PIECE), np.float32),
            dry=np.zeros((c, PIECE), np.float32),
            raw=np.zeros((s, c, PIECE), np.float32),
            wet=np.zeros((s, c, PIECE), np.float32),
            mixed=np.zeros((c, PIECE)),
        )
        self._device_outputs = device_outputs
        self.arrays.valid[:, 0] = state[block.FADE_FRAMES]
        self._take_over(session, controls)
        sizes = [s, c, spec.capacity_frames, device_inputs, device_outputs]
        self.userdata = np.array(sizes + [a.ctypes.data for a in self.arrays], np.int64)

    def _take_over(self, session: Session, controls: NDArray[np.void]) -> None:
        """Start from what is already published, at its values: nothing to ramp or fade from."""
        arrays, stems = self.arrays, session.spec.stems
        latest = session.controls.latest()
        controls[:] = neutral_controls() if latest is None else latest
        block.resolve_targets(controls[0], stems, arrays.targets, arrays.silenced)
        bypass = float(controls["bypass"][0] != 0)
        starts = [*arrays.targets, float(controls["output_gain"][0]), bypass]
        arrays.ramps[:] = np.stack([starts, starts, np.zeros(stems + 3)], axis=1)
        plan = session.plan.latest()
        if plan is not None:
            state = arrays.state
            arrays.plan[0] = plan.view(np.int64)
            state[block.PLAN_SEEN] = session.plan.published
            state[block.EPOCH], state[block.LATENCY] = plan["epoch"][0], plan["latency_frames"][0]
            state[block.FADE_WALKED] = state[block.FADE_FRAMES] if plan["epoch"][0] else 0

    def process(self, device_in: Audio, device_out: Audio, flags: int = 0) -> None:
        """Work one block from Python: `device_in` [inputs, frames] to `device_out` [outputs, frames], float32."""
        interleaved = np.ascontiguousarray(device_in.T, np.float32)
        frames = interleaved.shape[0]
        out = np.empty((frames, self._device_outputs), np.float32)
        process_block(self.arrays, interleaved, out, frames, flags)
        device_out[:] = out.T
