"""The one law of mixing, as compiled code.

    residual = dry(n - latency) - sum_s v_s * raw_s
    output   = sum_s g_s * v_s * wet_s + g_res * residual

`v_s` is the validity of stem `s`, ramped 0..1 as its hops arrive or fail. A stem that fails is held at its last
valid sample while `v_s` falls, so its part fades without a step. Sums are in float64: at unity gains every
`v_s * wet_s` cancels its `v_s * raw_s` and the rounded output is the dry input to the bit.

What the user chose as fallback acts on the residual's gain alone:
- silence: it is scaled by the validity of every muted (or not soloed) stem, so that a muted voice whose stem
  failed cannot leak back through the residual;
- dry: it is at least `(1 - v_s) * min(g_s, 1)` for every stem that should sound, so that what a failed stem
  no longer brings comes with the dry signal, also where the residual was muted.

Threads: everything here runs inside the callback.
"""

from __future__ import annotations

from streaming.compiled import compiled
from streaming.snapshot import RESIDUAL


@compiled
def resolve_targets(controls, stems, targets, silenced):  # type: ignore[no-untyped-def]
    """From faders and switches to target gains [stems + 1] (the residual last) and who is silenced [stems]."""
    soloing = controls.strip_solo[RESIDUAL] != 0
    for s in range(stems):
        soloing = soloing or controls.strip_solo[s] != 0
    for i in range(stems + 1):
        strip = i if i < stems else RESIDUAL
        closed = controls.strip_mute[strip] != 0 or (soloing and controls.strip_solo[strip] == 0)
        targets[i] = 0.0 if closed else controls.strip_gain[strip]
        if i < stems:
            silenced[i] = 1 if closed else 0


@compiled
def ramp_curve(ramp, target, ramp_frames, out, frames):  # type: ignore[no-untyped-def]
    """Fill `out` with a gain that walks linearly to `target` in `ramp_frames`; `ramp` is [from, to, frames walked]."""
    if target != ramp[1]:
        ramp[0] = ramp_at(ramp, ramp[2], ramp_frames)
        ramp[1] = target
        ramp[2] = 0.0
    for i in range(frames):
        out[i] = ramp_at(ramp, ramp[2] + i + 1, ramp_frames)
    ramp[2] = min(ramp[2] + frames, float(ramp_frames))


@compiled
def ramp_at(ramp, walked, ramp_frames):  # type: ignore[no-untyped-def]
    """The ramp's value after `walked` frames; exactly the target once it is there."""
    if walked >= ramp_frames:
        return ramp[1]
    return ramp[0] + (walked / ramp_frames) * (ramp[1] - ramp[0])


@compiled
def validity_curve(valid, valid_from, valid_to, fade_frames, held, stem, curve, frames):  # type: ignore[no-untyped-def]
    """Ramp one stem's validity and hold its last samples where frames are missing.

    `valid` is [stems, 2]: frames of the fade walked (0..fade_frames), and 1 while a fade-out is under way;
    once begun it is finished, so that coming back cannot step either. `held` is the pair of arrays
    (raw, wet), each ([channels, frames] block, [channels] last samples); they are changed in place.
    """
    raw, wet, last_raw, last_wet = held
    walked, falling = valid[stem, 0], valid[stem, 1]
    for i in range(frames):
        there = valid_from <= i < valid_to
        if there and falling == 0:
            walked = min(walked + 1, fade_frames)
            for c in range(raw.shape[0]):
                last_raw[c] = raw[c, i]
                last_wet[c] = wet[c, i]
        else:
            walked = max(walked - 1, 0)
            falling = 1 if walked > 0 else 0
            for c in range(raw.shape[0]):
                raw[c, i] = last_raw[c]
                wet[c, i] = last_wet[c]
        curve[i] = walked / fade_frames
    valid[stem, 0], valid[stem, 1] = walked, falling


@compiled
def residual_curve(gains, validity, silenced, fallback_silence, stems, out, frames):  # type: ignore[no-untyped-def]
    """The residual's gain with the fallback rule; `gains` [stems + 1, frames], `validity` [stems, frames]."""
    for i in range(frames):
        gain = gains[stems, i]
        for s in range(stems):
            if fallback_silence != 0 and silenced[s] != 0:
                gain *= validity[s, i]
            elif fallback_silence == 0:
                gain = max(gain, (1.0 - validity[s, i]) * min(gains[s, i], 1.0))
        out[i] = gain


@compiled
def mix(dry, raw, wet, gains, validity, residual_gain, stems, out, residual, frames):  # type: ignore[no-untyped-def]
    """The law itself. `dry` [channels, n] float32, `raw`/`wet` [stems, channels, n] float32, `out` float64.

    `residual` [channels, n] float64 is left behind for the meter.
    """
    for c in range(dry.shape[0]):
        for i in range(frames):
            out[c, i] = 0.0
            residual[c, i] = dry[c, i]
        for s in range(stems):
            for i in range(frames):
                out[c, i] += gains[s, i] * (validity[s, i] * wet[s, c, i])
                residual[c, i] -= validity[s, i] * raw[s, c, i]
        for i in range(frames):
            out[c, i] += residual_gain[i] * residual[c, i]
