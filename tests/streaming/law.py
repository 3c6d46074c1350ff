"""The law of mixing once more: float64, frame by frame, as slowly and plainly as it can be said."""

import numpy as np

from streaming.snapshot import RESIDUAL

FADE_FRAMES, RAMP_FRAMES = 441, 220  # 10 ms and 5 ms at 44.1 kHz (220.5 rounds to even)


def target_gains(record, stems):
    """(stem gains, residual gain) that the switches ask for."""
    strips = [*range(stems), RESIDUAL]
    soloing = record["strip_solo"][0].any()
    open_ = {
        strip: not record["strip_mute"][0, strip] and (not soloing or record["strip_solo"][0, strip])
        for strip in strips
    }
    gains = [record["strip_gain"][0, strip] if open_[strip] else 0.0 for strip in strips]
    return np.array(gains[:-1]), gains[-1]


class Ramp:
    """A value that goes to its target in a straight line of RAMP_FRAMES."""

    def __init__(self, value):
        self.line = [value]

    def aim(self, target):
        if target != self.line[-1]:
            self.line = list(np.linspace(self.line[0], target, RAMP_FRAMES + 1))

    def next(self):
        if len(self.line) > 1:
            self.line.pop(0)
        return self.line[0]


class Validity:
    """0..1 in steps of 1 / FADE_FRAMES; a fall goes down to 0 before it rises again."""

    def __init__(self):
        self.walked, self.falling = FADE_FRAMES, False

    def next(self, there):
        if there and not self.falling:
            self.walked = min(self.walked + 1, FADE_FRAMES)
            return self.walked / FADE_FRAMES, True
        self.walked = max(self.walked - 1, 0)
        self.falling = self.walked > 0
        return self.walked / FADE_FRAMES, False


def residual_gain(residual, gains, validity, silence):
    """Silence: less by what attenuated stems lack. Dry: no less than what sounding stems lack."""
    sounding = np.minimum(gains, 1.0)
    silenced = residual * np.prod(1.0 - (1.0 - sounding) * (1.0 - validity))
    filled = max([residual, *(sounding * (1.0 - validity))])
    return filled + silence * (silenced - filled)


def restate(dry, raw, wet, there, record_at):
    """Output [channels, frames] for dry [channels, frames], raw and wet [stems, channels, frames].

    `there` [stems, frames]; `record_at` {first frame of a block: the controls from then on}, with frame 0. No
    epoch changes, no limiter.
    """
    stems = len(raw)
    first_gains, first_residual = target_gains(record_at[0], stems)
    ramps = [Ramp(gain) for gain in first_gains]
    residual_ramp, output_ramp = Ramp(first_residual), Ramp(record_at[0]["output_gain"][0])
    bypass_ramp = Ramp(float(record_at[0]["bypass"][0]))
    silence_ramp = Ramp(float(record_at[0]["fallback_silence"][0]))
    validities = [Validity() for _ in range(stems)]
    held = np.zeros((2, *raw.shape[:2]))
    out = np.zeros(dry.shape)
    for n in range(dry.shape[1]):
        if n in record_at:
            record = record_at[n]
            gains, residual_target = target_gains(record, stems)
            for ramp, gain in zip(ramps, gains, strict=True):
                ramp.aim(gain)
            residual_ramp.aim(residual_target)
            output_ramp.aim(record["output_gain"][0])
            bypass_ramp.aim(float(record["bypass"][0]))
            silence_ramp.aim(float(record["fallback_silence"][0]))
        g = np.array([ramp.next() for ramp in ramps])
        v = np.zeros(stems)
        for s in range(stems):
            v[s], fresh = validities[s].next(there[s, n])
            if fresh:
                held[:, s] = raw[s, :, n], wet[s, :, n]
        residual = dry[:, n] - v @ held[0]
        g_residual = residual_gain(residual_ramp.next(), g, v, silence_ramp.next())
        mixed = output_ramp.next() * ((g * v) @ held[1] + g_residual * residual)
        bypass = bypass_ramp.next()
        out[:, n] = (1.0 - bypass) * mixed + bypass * dry[:, n]
    return out
