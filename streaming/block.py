"""What a device calls once per block: compiled, without the interpreter, without allocation.

At absolute frame `n` the block's input is written to the dry timeline at `n`, and every stem and the dry
signal are read at `n - latency`, whether they were written or not: the frame number says if they were. A
device block of any length is worked in pieces of at most `PIECE_FRAMES`.

Everything that the compiled code touches is one record of dtype BLOCK, or lies at an address in it.

Threads: everything here runs inside the callback.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import carray  # type: ignore[attr-defined]

from streaming import health, limiter
from streaming.atomics import address_as_pointer
from streaming.compiled import compiled, inlined
from streaming.fades import blend
from streaming.limiter import limit
from streaming.meters import fall_factor, meter
from streaming.mixer import mix, ramp_curve, residual_curve, resolve_targets, validity_curve
from streaming.separator import Audio
from streaming.session import MAX_CHANNELS
from streaming.snapshot import (
    CONTROLS,
    MAX_STEMS,
    PLAN,
    RESIDUAL,
    SLOTS,
    STRIPS,
    snapshot_take,
)
from streaming.snapshot import HEADER_WORDS as SNAPSHOT_WORDS
from streaming.timeline import HEADER_WORDS as TIMELINE_WORDS
from streaming.timeline import timeline_read, timeline_write
from streaming.wakeup import WORDS as WAKEUP_WORDS
from streaming.wakeup import wakeup_post

PIECE_FRAMES = 1024
FADE_S = 0.010  # validity and epoch fades
RAMP_S = 0.005  # fader moves
XRUN_FLAGS = 0b1111  # PortAudio's input/output under- and overflow; priming is none

# The timelines: dry, then a raw and a wet one for each stem.
DRY, RAW, WET, TIMELINES = 0, 1, 1 + MAX_STEMS, 1 + 2 * MAX_STEMS

# Rows of `ramps` and `curves` behind the strips' gains.
OUTPUT, BYPASS, FALLBACK, RAMPS = range(STRIPS, STRIPS + 4)

BLOCK = np.dtype(
    [
        # what is set once
        ("stems", "i8"),
        ("channels", "i8"),
        ("capacity_frames", "i8"),
        ("device_inputs", "i8"),
        ("device_outputs", "i8"),
        ("sample_rate_hz", "i8"),
        ("hop_frames", "i8"),
        ("hop_phase_frames", "i8"),
        ("fade_frames", "i8"),
        ("ramp_frames", "i8"),
        ("input_map", "i8", (MAX_CHANNELS,)),  # device channel of each engine channel
        ("output_map", "i8", (MAX_CHANNELS,)),
        # addresses in shared memory
        ("timeline_headers", "i8", (TIMELINES,)),  # 0 for those that are not read
        ("timeline_data", "i8", (TIMELINES,)),
        ("controls_header", "i8"),
        ("controls_slots", "i8"),
        ("plan_header", "i8"),
        ("plan_slots", "i8"),
        ("counters", "i8"),
        ("peaks", "i8"),
        ("wake_separator", "i8"),
        # what is carried from block to block
        ("frame", "i8"),
        ("epoch", "i8"),
        ("latency_frames", "i8"),
        ("fade_walked", "i8"),
        ("last_late_hop", "i8"),
        ("controls_seen", "i8"),
        ("plan_seen", "i8"),
        ("controls", "i8", (2, CONTROLS.itemsize // 8)),  # the words of the record in force, and a spare
        ("plan", "i8", (2, PLAN.itemsize // 8)),
        ("ramps", "f8", (RAMPS, 3)),
        ("stem_fades", "i8", (MAX_STEMS, 2)),
        ("held", "f4", (MAX_STEMS, 2, MAX_CHANNELS)),
        ("limiter_gain", "f8"),
        # what one piece is worked in
        ("limited", "i8"),
        ("targets", "f8", (RAMPS,)),
        ("curves", "f8", (RAMPS, PIECE_FRAMES)),
        ("validity", "f8", (MAX_STEMS, PIECE_FRAMES)),
        ("residual_gain", "f8", (PIECE_FRAMES,)),
        ("residual", "f8", (MAX_CHANNELS, PIECE_FRAMES)),
        ("mixed", "f8", (MAX_CHANNELS, PIECE_FRAMES)),
        ("incoming", "f4", (MAX_CHANNELS, PIECE_FRAMES)),
        ("heard", "f4", (TIMELINES, MAX_CHANNELS, PIECE_FRAMES)),
        ("there", "i8", (TIMELINES, 2)),  # the range of each that could be read
    ],
    align=True,
)


@compiled
def words_at(address: int, shape: Any) -> Any:
    """int64 array of `shape` at an address."""
    return carray(address_as_pointer(address), shape, np.int64)


@compiled
def samples_at(address: int, shape: Any) -> Any:
    """float32 array of `shape` at an address."""
    return carray(address_as_pointer(address), shape, np.float32)


@inlined
def process_block(block: Any, device_in: Audio, device_out: Audio, flags: int) -> None:
    """Work one device block; `device_in` and `device_out` are [frames, device channels], interleaved."""
    frames = device_in.shape[0]
    take_newest(block)
    block.limited = 0
    done = 0
    while done < frames:
        piece = min(frames - done, PIECE_FRAMES)
        process_piece(block, device_in[done : done + piece], device_out[done : done + piece], piece)
        done += piece
    count_block(block, frames, flags)


@compiled
def take_newest(block: Any) -> None:
    """Take the newest whole controls and plan, or keep the last."""
    block.controls_seen = take_snapshot(
        block.controls_header, block.controls_slots, block.controls[:], block.controls_seen
    )
    block.plan_seen = take_snapshot(block.plan_header, block.plan_slots, block.plan[:], block.plan_seen)


@compiled
def take_snapshot(header: int, slots: int, words: Any, seen: int) -> int:
    """`snapshot_take` at addresses, into words[0]; words[1] is a spare."""
    header_words = words_at(header, (SNAPSHOT_WORDS,))
    slot_words = words_at(slots, (SLOTS, words.shape[1]))
    return snapshot_take(header_words, slot_words, words[0], words[1], seen)


@inlined
def process_piece(block: Any, device_in: Audio, device_out: Audio, frames: int) -> None:
    """One pass of the law over at most PIECE_FRAMES frames."""
    peaks = samples_at(block.peaks, (health.PEAKS,))
    fall = fall_factor(frames, block.sample_rate_hz)
    incoming, mixed = block.incoming[: block.channels], block.mixed[: block.channels]
    take_input(block, device_in, incoming, frames)
    meter(peaks, health.PEAK_INPUT, incoming, frames, fall)
    write_dry(block, incoming, frames)
    read_timelines(block, block.frame - block.latency_frames, frames)
    hear_stems(block, block.frame - block.latency_frames, frames)
    apply_law(block, mixed, frames)
    meter_strips(block, peaks, frames, fall)
    epoch_fade(block, mixed, frames)
    protect(block, mixed, frames)
    meter(peaks, health.PEAK_OUTPUT, mixed, frames, fall)
    give_output(block, mixed, device_out, frames)
    block.frame += frames


@compiled
def take_input(block: Any, device_in: Audio, incoming: Audio, frames: int) -> None:
    """De-interleave the chosen channels; NaN and infinity become 0 and are counted."""
    counters = words_at(block.counters, (health.WORDS,))
    for c in range(incoming.shape[0]):
        source = block.input_map[c]
        for i in range(frames):
            sample = device_in[i, source]
            if not math.isfinite(sample):
                sample = np.float32(0.0)
                counters[health.NONFINITE_IN] += 1
            incoming[c, i] = sample


@compiled
def write_dry(block: Any, incoming: Audio, frames: int) -> None:
    """Write the input to the dry timeline; one wake-up for each piece that completes a hop."""
    header = words_at(block.timeline_headers[DRY], (TIMELINE_WORDS,))
    data = samples_at(block.timeline_data[DRY], (block.channels, block.capacity_frames))
    timeline_write(header, data, block.frame, incoming, frames)
    if block.frame // block.hop_frames != (block.frame + frames) // block.hop_frames:
        wakeup_post(words_at(block.wake_separator, (WAKEUP_WORDS,)))


@compiled
def read_timelines(block: Any, start: int, frames: int) -> None:
    """Read every timeline at absolute frame `start`; what is not there is 0."""
    for t in range(TIMELINES):
        if block.timeline_headers[t] == 0:
            continue
        heard = block.heard[t, : block.channels]
        for c in range(heard.shape[0]):
            for i in range(frames):
                heard[c, i] = 0.0
        header = words_at(block.timeline_headers[t], (TIMELINE_WORDS,))
        data = samples_at(block.timeline_data[t], (block.channels, block.capacity_frames))
        block.there[t, 0], block.there[t, 1] = timeline_read(header, data, start, heard, frames)


@compiled
def hear_stems(block: Any, start: int, frames: int) -> None:
    """The validity of every stem; what is not there is held, faded and counted."""
    channels = block.channels
    first, last = 0, frames  # the range in which every stem is there
    for s in range(block.stems):
        there_from, there_to = stem_range(block, s, start, frames)
        raw, wet = block.heard[RAW + s, :channels], block.heard[WET + s, :channels]
        validity_curve(
            block.stem_fades[s],
            there_from,
            there_to,
            block.fade_frames,
            raw,
            wet,
            block.held[s],
            block.validity[s],
            frames,
        )
        first, last = max(first, there_from), min(last, there_to)
    count_missing(block, start, first, last, frames)


@compiled
def stem_range(block: Any, s: int, start: int, frames: int) -> tuple[int, int]:
    """Where stem `s` is there, raw and wet. Frames before 0 are silence by definition."""
    first, last = block.there[RAW + s, 0], block.there[RAW + s, 1]
    if block.timeline_headers[WET + s] != 0:
        first, last = max(first, block.there[WET + s, 0]), min(last, block.there[WET + s, 1])
    else:
        for c in range(block.channels):
            for i in range(frames):
                block.heard[WET + s, c, i] = block.heard[RAW + s, c, i]
    last = finite_until(block.heard[RAW + s, : block.channels], first, last)
    last = finite_until(block.heard[WET + s, : block.channels], first, last)
    before_zero = min(max(-start, 0), frames)
    if first >= last:
        return 0, before_zero
    return (0, last) if first <= before_zero else (first, last)


@compiled
def finite_until(heard: Audio, first: int, last: int) -> int:
    """The first frame of [first, last) that is not finite, else `last`."""
    for c in range(heard.shape[0]):
        for i in range(first, last):
            if not math.isfinite(heard[c, i]):
                last = i
                break
    return last


@compiled
def count_missing(block: Any, start: int, first: int, last: int, frames: int) -> None:
    """Count frames outside [first, last), and their hops once each, while an epoch is played."""
    if block.epoch == 0:
        return
    last = max(first, last)
    before_zero = min(max(-start, 0), first)
    count_late(block, start + before_zero, first - before_zero)
    count_late(block, start + last, frames - last)


@compiled
def count_late(block: Any, start: int, frames: int) -> None:
    """Count `frames` missing frames from `start`, and those of their hops that were not counted before."""
    if frames <= 0:
        return
    counters = words_at(block.counters, (health.WORDS,))
    counters[health.MISSING_FRAMES] += frames
    first = max((start - block.hop_phase_frames) // block.hop_frames, block.last_late_hop + 1)
    last = (start + frames - 1 - block.hop_phase_frames) // block.hop_frames
    if last >= first:
        counters[health.LATE_HOPS] += last - first + 1
        block.last_late_hop = last


@compiled
def resolve_faders(block: Any) -> None:
    """The faders and switches in force, as target gains."""
    controls = carray(address_as_pointer(block.controls.ctypes.data), (1,), CONTROLS)[0]
    resolve_targets(controls, block.targets)
    block.targets[OUTPUT] = controls.output_gain
    block.targets[BYPASS] = 1.0 if controls.bypass != 0 else 0.0
    block.targets[FALLBACK] = 1.0 if controls.fallback_silence != 0 else 0.0


@compiled
def fill_curves(block: Any, frames: int) -> None:
    """Walk every gain that is in use toward its target."""
    for row in range(RAMPS):
        if row < block.stems or row >= RESIDUAL:
            ramp_curve(block.ramps[row], block.targets[row], block.ramp_frames, block.curves[row], frames)


@compiled
def apply_law(block: Any, mixed: Any, frames: int) -> None:
    """The mixing law, then output gain and bypass."""
    channels, stems = block.channels, block.stems
    curves, validity, residual_gain = block.curves[:], block.validity[:], block.residual_gain[:]
    dry = block.heard[DRY, :channels]
    resolve_faders(block)
    fill_curves(block, frames)
    residual_curve(curves, validity, curves[FALLBACK], stems, residual_gain, frames)
    mix(
        dry,
        block.heard[RAW : RAW + stems],
        block.heard[WET : WET + stems],
        curves,
        validity,
        residual_gain,
        stems,
        mixed,
        block.residual[:channels],
        frames,
    )
    for c in range(channels):
        for i in range(frames):
            wanted, bypass = curves[OUTPUT, i] * mixed[c, i], curves[BYPASS, i]
            mixed[c, i] = dry[c, i] if bypass == 1.0 else blend(wanted, dry[c, i], bypass)


@compiled
def meter_strips(block: Any, peaks: Audio, frames: int, fall: float) -> None:
    """The stems as they came and the residual, before their faders."""
    for s in range(block.stems):
        meter(peaks, s, block.heard[RAW + s, : block.channels], frames, fall)
    meter(peaks, RESIDUAL, block.residual[: block.channels], frames, fall)


@compiled
def epoch_fade(block: Any, mixed: Any, frames: int) -> None:
    """Fade to silence when another epoch is planned, change latency there, fade in again. Epoch 0: mute."""
    planned_epoch, planned_latency_frames = block.plan[0, 0], block.plan[0, 1]
    opening = planned_epoch == block.epoch and planned_epoch != 0
    walked, fade = block.fade_walked, block.fade_frames
    for i in range(frames):
        walked = min(walked + 1, fade) if opening else max(walked - 1, 0)
        for c in range(mixed.shape[0]):
            mixed[c, i] *= walked / fade
    block.fade_walked = walked
    if walked == 0 and planned_epoch != block.epoch:
        block.epoch, block.latency_frames = planned_epoch, planned_latency_frames
        for s in range(block.stems):
            block.stem_fades[s, 0], block.stem_fades[s, 1] = fade, 0


@compiled
def protect(block: Any, mixed: Any, frames: int) -> None:
    """Limit what goes to the speaker."""
    release = 1.0 / (limiter.RELEASE_S * block.sample_rate_hz)
    block.limiter_gain, acted = limit(block.limiter_gain, limiter.CEILING, release, mixed, frames)
    if acted:
        block.limited = 1


@compiled
def give_output(block: Any, mixed: Any, device_out: Audio, frames: int) -> None:
    """Interleave into the chosen channels; the others are silent."""
    for i in range(frames):
        for c in range(device_out.shape[1]):
            device_out[i, c] = 0.0
    for c in range(mixed.shape[0]):
        target = block.output_map[c]
        for i in range(frames):
            device_out[i, target] = mixed[c, i]


@compiled
def count_block(block: Any, frames: int, flags: int) -> None:
    """Keep the counters that the other processes read."""
    row = words_at(block.counters, (health.WORDS,))
    row[health.BLOCK_MIN] = frames if row[health.BLOCKS] == 0 else min(row[health.BLOCK_MIN], frames)
    row[health.BLOCK_MAX] = max(row[health.BLOCK_MAX], frames)
    row[health.BLOCKS] += 1
    row[health.FRAME] = block.frame
    row[health.EPOCH] = block.epoch
    row[health.SILENT] = 1 if block.fade_walked == 0 else 0
    row[health.LIMITED_BLOCKS] += block.limited
    if flags & XRUN_FLAGS:
        row[health.XRUNS] += 1
