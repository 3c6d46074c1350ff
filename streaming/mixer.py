"""The one law of mixing, as compiled code.

    residual = dry(n - latency) - sum_s v_s * raw_s
    output   = sum_s g_s * v_s * wet_s + g_res * residual

`v_s` is the validity of stem `s`, ramped 0..1 as its hops arrive or fail. A stem that fails is held at its
last valid sample while `v_s` falls, so its part fades without a step. The output is summed as
`g_res * dry + sum_s v_s * (g_s * wet_s - g_res * raw_s)` in float64: the same law, and at unity gains each
bracket is exactly 0, so the output is the dry input to the bit, however loud the stems are.

What the user chose as fallback acts on the residual's gain alone. With `m_s = min(g_s, 1)`:
- silence: it is scaled by `1 - (1 - m_s) * (1 - v_s)` for every stem. A muted (or not soloed) stem has
  `m_s = 0`, which makes this `v_s`: a muted voice whose stem failed cannot leak back through the residual;
- dry: it is at least `m_s * (1 - v_s)` for every stem, so that what a failed stem no longer brings comes with
  the dry signal, also where the residual was muted.

Gains are arrays with a row for each strip, stems first and the residual at RESIDUAL.

Threads: everything here runs inside the callback.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming.compiled import compiled
from streaming.fades import blend
from streaming.separator import Audio
from streaming.snapshot import RESIDUAL, STRIPS

Curves = NDArray[np.float64]


@compiled
def resolve_targets(controls: Any, targets: NDArray[np.float64]) -> None:
    """From the faders and switches of a CONTROLS record to target gains [STRIPS]."""
    soloing = False
    for strip in range(STRIPS):
        soloing = soloing or controls.strip_solo[strip] != 0
    for strip in range(STRIPS):
        closed = controls.strip_mute[strip] != 0 or (soloing and controls.strip_solo[strip] == 0)
        targets[strip] = 0.0 if closed else controls.strip_gain[strip]


@compiled
def ramp_at(ramp: NDArray[np.float64], walked: float, ramp_frames: int) -> float:
    """The value after `walked` frames of `ramp` [from, to, frames walked]; exactly `to` once it is there."""
    if walked >= ramp_frames:
        return float(ramp[1])
    return blend(ramp[0], ramp[1], walked / ramp_frames)


@compiled
def ramp_curve(
    ramp: NDArray[np.float64], target: float, ramp_frames: int, out: NDArray[np.float64], frames: int
) -> None:
    """Fill `out` with a gain that walks linearly from where it is to `target` in `ramp_frames`."""
    if target != ramp[1]:
        ramp[0] = ramp_at(ramp, ramp[2], ramp_frames)
        ramp[1] = target
        ramp[2] = 0.0
    for i in range(frames):
        out[i] = ramp_at(ramp, ramp[2] + i + 1, ramp_frames)
    ramp[2] = min(ramp[2] + frames, float(ramp_frames))


@compiled
def validity_curve(
    fade: NDArray[np.int64],
    valid_from: int,
    valid_to: int,
    fade_frames: int,
    raw: Audio,
    wet: Audio,
    held: Audio,
    out: NDArray[np.float64],
    frames: int,
) -> None:
    """Ramp one stem's validity into `out`, and hold its last samples where frames are missing.

    `fade` is [frames walked of 0..fade_frames, 1 while a fade-out is under way]: once begun it is finished,
    so that coming back cannot step either. `raw` and `wet` [channels, n] and their last samples `held`
    [2, channels] are changed in place.
    """
    walked, falling = fade[0], fade[1]
    for i in range(frames):
        if valid_from <= i < valid_to and falling == 0:
            walked = min(walked + 1, fade_frames)
            for c in range(raw.shape[0]):
                held[0, c] = raw[c, i]
                held[1, c] = wet[c, i]
        else:
            walked = max(walked - 1, 0)
            falling = 1 if walked > 0 else 0
            for c in range(raw.shape[0]):
                raw[c, i] = held[0, c]
                wet[c, i] = held[1, c]
        out[i] = walked / fade_frames
    fade[0], fade[1] = walked, falling


@compiled
def residual_curve(
    gains: Curves,
    validity: Curves,
    fallback: NDArray[np.float64],
    stems: int,
    out: NDArray[np.float64],
    frames: int,
) -> None:
    """The residual's gain under the fallback rule; `fallback` walks between 0 (dry) and 1 (silence)."""
    for i in range(frames):
        dry_rule = silence_rule = gains[RESIDUAL, i]
        for s in range(stems):
            missing, sounding = 1.0 - validity[s, i], min(gains[s, i], 1.0)
            dry_rule = max(dry_rule, sounding * missing)
            silence_rule *= 1.0 - (1.0 - sounding) * missing
        out[i] = blend(dry_rule, silence_rule, fallback[i])


@compiled
def mix(
    dry: Audio,
    raw: Audio,
    wet: Audio,
    gains: Curves,
    validity: Curves,
    residual_gain: NDArray[np.float64],
    stems: int,
    out: Curves,
    residual: Curves,
    frames: int,
) -> None:
    """The law itself: `dry` [channels, n], `raw` and `wet` [stems, channels, n] to `out` [channels, n].

    The residual [channels, n], before its fader, is left behind for the meter.
    """
    for c in range(dry.shape[0]):
        for i in range(frames):
            out[c, i] = residual_gain[i] * dry[c, i]
            residual[c, i] = dry[c, i]
        for s in range(stems):
            for i in range(frames):
                kept = gains[s, i] * wet[s, c, i] - residual_gain[i] * raw[s, c, i]
                out[c, i] += validity[s, i] * kept
                residual[c, i] -= validity[s, i] * raw[s, c, i]
