"""What a device calls once per block: compiled, without the interpreter, without allocation.

At absolute frame `n` the block's input is written to the dry timeline at `n`, and every stem and the dry signal
are read at `n - latency`, whether they were written or not: the frame number says if they were. A device block
of any length is worked in pieces of at most `PIECE_FRAMES`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming import health, limiter
from streaming.compiled import compiled
from streaming.limiter import limit
from streaming.meters import fall_factor, meter
from streaming.mixer import mix, ramp_curve, residual_curve, resolve_targets, validity_curve
from streaming.separator import Audio
from streaming.snapshot import RESIDUAL, snapshot_take
from streaming.timeline import timeline_read, timeline_write
from streaming.wakeup import wakeup_post

PIECE_FRAMES = 1024
FADE_S = 0.010  # validity and epoch fades
RAMP_S = 0.005  # fader moves
XRUN_FLAGS = 0b1111  # PortAudio's input/output under- and overflow; priming is none

# columns of the engine's own int64 row
(
    FRAME,
    EPOCH,
    LATENCY,
    FADE_WALKED,
    FADE_FRAMES,
    RAMP_FRAMES,
    LAST_LATE_HOP,
    CONTROLS_SEEN,
    PLAN_SEEN,
    HOP,
    HOP_PHASE,
    RATE,
    STATE_WORDS,
) = range(13)

# rows of `ramps` and `curves` behind the stems' and the residual's gains
RAMP_OUTPUT, RAMP_BYPASS = 1, 2


class Arrays(NamedTuple):
    """Every array the compiled block touches; S stems, C channels, P = PIECE_FRAMES."""

    state: NDArray[np.int64]  # [STATE_WORDS]
    dry_header: NDArray[np.int64]
    dry_data: Audio  # [C, capacity]
    raw_headers: NDArray[np.int64]  # [S, words]
    raw_data: Audio  # [S, C, capacity]
    wet_headers: NDArray[np.int64]
    wet_data: Audio
    chained: NDArray[np.int64]  # [S]
    controls_header: NDArray[np.int64]
    controls_slots: NDArray[np.int64]
    controls: NDArray[np.void]  # [1]: the record in force
    controls_words: NDArray[np.int64]  # [2, words]: the same memory as words, and a spare
    plan_header: NDArray[np.int64]
    plan_slots: NDArray[np.int64]
    plan: NDArray[np.int64]  # [2, words]
    counters: NDArray[np.int64]  # the callback's row of health
    peaks: Audio
    wake_separator: NDArray[np.int64]
    input_map: NDArray[np.int64]  # [C]: device channel of each engine channel
    output_map: NDArray[np.int64]
    ramps: NDArray[np.float64]  # [S + 3, 3]: stems, residual, output, bypass
    targets: NDArray[np.float64]  # [S + 1]
    silenced: NDArray[np.int64]  # [S]
    valid: NDArray[np.int64]  # [S, 2]
    held: Audio  # [2, S, C]
    limiter_gain: NDArray[np.float64]  # [1]
    curves: NDArray[np.float64]  # [S + 3, P]
    validity: NDArray[np.float64]  # [S, P]
    residual: NDArray[np.float64]  # [1 + C, P]: its gain, and itself
    incoming: Audio  # [C, P]
    dry: Audio  # [C, P]
    raw: Audio  # [S, C, P]
    wet: Audio  # [S, C, P]
    mixed: NDArray[np.float64]  # [C, P]


@compiled
def process_block(a, device_in, device_out, frames, flags):  # type: ignore[no-untyped-def]
    """Work one device block. `device_in`/`device_out` are [frames, device channels] float32, interleaved."""
    take_newest(a)
    done = 0
    while done < frames:
        piece = min(frames - done, PIECE_FRAMES)
        process_piece(a, device_in[done : done + piece], device_out[done : done + piece], piece)
        done += piece
    count_block(a, frames, flags)


@compiled
def take_newest(a):  # type: ignore[no-untyped-def]
    """Take the newest whole controls and plan, or keep the last."""
    a.state[CONTROLS_SEEN] = snapshot_take(
        a.controls_header, a.controls_slots, a.controls_words[0], a.controls_words[1], a.state[CONTROLS_SEEN]
    )
    a.state[PLAN_SEEN] = snapshot_take(a.plan_header, a.plan_slots, a.plan[0], a.plan[1], a.state[PLAN_SEEN])


@compiled
def process_piece(a, device_in, device_out, frames):  # type: ignore[no-untyped-def]
    """One pass of the law over at most PIECE_FRAMES frames."""
    frame = a.state[FRAME]
    fall = fall_factor(frames, a.state[RATE])
    take_input(a, device_in, frames)
    meter(a.peaks, health.PEAK_INPUT, a.incoming, frames, fall)
    timeline_write(a.dry_header, a.dry_data, frame, a.incoming, frames)
    wake_if_hop_ended(a, frame, frames)
    read_stems(a, frame - a.state[LATENCY], frames)
    apply_law(a, frames, fall)
    epoch_fade(a, frames)
    release = 1.0 / (limiter.RELEASE_S * a.state[RATE])
    a.counters[health.LIMITED_BLOCKS] += limit(a.limiter_gain, limiter.CEILING, release, a.mixed, frames)
    meter(a.peaks, health.PEAK_OUTPUT, a.mixed, frames, fall)
    give_output(a, device_out, frames)
    a.state[FRAME] = frame + frames


@compiled
def take_input(a, device_in, frames):  # type: ignore[no-untyped-def]
    """De-interleave the chosen channels; NaN and infinity become 0 and are counted."""
    for c in range(a.incoming.shape[0]):
        source = a.input_map[c]
        for i in range(frames):
            sample = device_in[i, source]
            if not math.isfinite(sample):
                sample = np.float32(0.0)
                a.counters[health.NONFINITE_IN] += 1
            a.incoming[c, i] = sample


@compiled
def wake_if_hop_ended(a, frame, frames):  # type: ignore[no-untyped-def]
    """One post for each piece that completes a hop of the dry timeline."""
    hop = a.state[HOP]
    if frame // hop != (frame + frames) // hop:
        wakeup_post(a.wake_separator)


@compiled
def read_stems(a, start, frames):  # type: ignore[no-untyped-def]
    """Read dry and stems at absolute frame `start`; what is not there is held, faded and counted."""
    clear(a.dry, frames)
    timeline_read(a.dry_header, a.dry_data, start, a.dry, frames)
    for s in range(a.raw.shape[0]):
        valid_from, valid_to = read_stem(a, s, start, frames)
        held = (a.raw[s], a.wet[s], a.held[0, s], a.held[1, s])
        validity_curve(
            a.valid, valid_from, valid_to, a.state[FADE_FRAMES], held, s, a.validity[s], frames
        )
        count_missing(a, start, valid_from, valid_to, frames)


@compiled
def clear(block, frames):  # type: ignore[no-untyped-def]
    """Zero block[:, :frames]. Loops, since assigning a slice leaves an allocation and a raise path."""
    for c in range(block.shape[0]):
        for i in range(frames):
            block[c, i] = 0.0


@compiled
def copy_block(source, target, frames):  # type: ignore[no-untyped-def]
    """Copy source[:, :frames] to target."""
    for c in range(source.shape[0]):
        for i in range(frames):
            target[c, i] = source[c, i]


@compiled
def read_stem(a, s, start, frames):  # type: ignore[no-untyped-def]
    """Read one stem, raw and wet; frames before 0 are silence by definition. Returns the range that is there."""
    before_zero = min(max(-start, 0), frames)
    clear(a.raw[s], frames)
    valid_from, valid_to = timeline_read(a.raw_headers[s], a.raw_data[s], start, a.raw[s], frames)
    if a.chained[s] == 0:
        copy_block(a.raw[s], a.wet[s], frames)
    else:
        clear(a.wet[s], frames)
        wet_from, wet_to = timeline_read(a.wet_headers[s], a.wet_data[s], start, a.wet[s], frames)
        valid_from, valid_to = max(valid_from, wet_from), min(valid_to, wet_to)
    if before_zero and (valid_from <= before_zero or valid_to <= valid_from):
        return 0, max(valid_to, before_zero)
    return valid_from, valid_to


@compiled
def count_missing(a, start, valid_from, valid_to, frames):  # type: ignore[no-untyped-def]
    """Count late hops once each, and missing frames of this stem, while an epoch is played."""
    if a.state[EPOCH] == 0:
        return
    valid_to = max(valid_to, valid_from)
    count_late(a, start, min(valid_from, frames))
    count_late(a, start + valid_to, frames - valid_to)


@compiled
def count_late(a, start, frames):  # type: ignore[no-untyped-def]
    """Count the hops touched by `frames` missing frames from `start` that were not counted before."""
    if frames <= 0:
        return
    a.counters[health.MISSING_FRAMES] += frames
    first = max((start - a.state[HOP_PHASE]) // a.state[HOP], a.state[LAST_LATE_HOP] + 1)
    last = (start + frames - 1 - a.state[HOP_PHASE]) // a.state[HOP]
    if last >= first:
        a.counters[health.LATE_HOPS] += last - first + 1
        a.state[LAST_LATE_HOP] = last


@compiled
def apply_law(a, frames, fall):  # type: ignore[no-untyped-def]
    """Faders to curves, the mixing law, output gain and bypass."""
    stems = a.raw.shape[0]
    controls = a.controls[0]
    ramp = a.state[RAMP_FRAMES]
    resolve_targets(controls, stems, a.targets, a.silenced)
    for i in range(stems + 1):
        ramp_curve(a.ramps[i], a.targets[i], ramp, a.curves[i], frames)
    ramp_curve(a.ramps[stems + RAMP_OUTPUT], controls.output_gain, ramp, a.curves[stems + RAMP_OUTPUT], frames)
    bypass = 1.0 if controls.bypass != 0 else 0.0
    ramp_curve(a.ramps[stems + RAMP_BYPASS], bypass, ramp, a.curves[stems + RAMP_BYPASS], frames)
    residual_curve(a.curves, a.validity, a.silenced, controls.fallback_silence, stems, a.residual[0], frames)
    mix(a.dry, a.raw, a.wet, a.curves, a.validity, a.residual[0], stems, a.mixed, a.residual[1:], frames)
    meter(a.peaks, RESIDUAL, a.residual[1:], frames, fall)
    for s in range(stems):
        meter(a.peaks, s, a.raw[s], frames, fall)
    for c in range(a.mixed.shape[0]):
        for i in range(frames):
            wanted = a.curves[stems + RAMP_OUTPUT, i] * a.mixed[c, i]
            a.mixed[c, i] = wanted + a.curves[stems + RAMP_BYPASS, i] * (a.dry[c, i] - wanted)


@compiled
def epoch_fade(a, frames):  # type: ignore[no-untyped-def]
    """Fade to silence when another epoch is planned, change latency there, and fade in again. Epoch 0 stays silent."""
    planned_epoch, planned_latency = a.plan[0, 0], a.plan[0, 1]
    fade = a.state[FADE_FRAMES]
    walked = a.state[FADE_WALKED]
    opening = planned_epoch == a.state[EPOCH] and planned_epoch != 0
    for i in range(frames):
        walked = min(walked + 1, fade) if opening else max(walked - 1, 0)
        gain = walked / fade
        for c in range(a.mixed.shape[0]):
            a.mixed[c, i] *= gain
    a.state[FADE_WALKED] = walked
    if walked == 0 and planned_epoch != a.state[EPOCH]:
        a.state[EPOCH] = planned_epoch
        a.state[LATENCY] = planned_latency
        for s in range(a.valid.shape[0]):
            a.valid[s, 0], a.valid[s, 1] = fade, 0


@compiled
def give_output(a, device_out, frames):  # type: ignore[no-untyped-def]
    """Interleave into the chosen channels; the others are silent."""
    for i in range(frames):
        for c in range(device_out.shape[1]):
            device_out[i, c] = 0.0
    for c in range(a.mixed.shape[0]):
        target = a.output_map[c]
        for i in range(frames):
            device_out[i, target] = a.mixed[c, i]


@compiled
def count_block(a, frames, flags):  # type: ignore[no-untyped-def]
    """Keep the counters that the other processes read."""
    row = a.counters
    row[health.BLOCK_MIN] = frames if row[health.BLOCKS] == 0 else min(row[health.BLOCK_MIN], frames)
    row[health.BLOCK_MAX] = max(row[health.BLOCK_MAX], frames)
    row[health.BLOCKS] += 1
    row[health.FRAME] = a.state[FRAME]
    row[health.EPOCH] = a.state[EPOCH]
    row[health.SILENT] = 1 if a.state[FADE_WALKED] == 0 else 0
    if flags & XRUN_FLAGS:
        row[health.XRUNS] += 1
