"""Peak meters: the block's peak at once, falling by 20 dB a second.

Threads: written inside the callback, read from anywhere.
"""

from __future__ import annotations

from streaming.compiled import compiled

FALL_DB_PER_S = 20.0


@compiled
def fall_factor(frames, sample_rate_hz):  # type: ignore[no-untyped-def]
    """What a meter falls to over `frames`."""
    return 10.0 ** (-FALL_DB_PER_S * frames / sample_rate_hz / 20.0)


@compiled
def meter(peaks, index, block, frames, fall):  # type: ignore[no-untyped-def]
    """Move meter `index` to the peak of `block` [channels, n], or let it fall by `fall`."""
    peak = 0.0
    for c in range(block.shape[0]):
        for i in range(frames):
            peak = max(peak, abs(block[c, i]))
    peaks[index] = max(peak, peaks[index] * fall)
