"""Other rates than the model's: whole files through soxr, live hops through a polyphase filter.

A streaming soxr works in blocks of its own and holds back up to 40 ms at 48 kHz. The two rates of a hop are
a ratio of small whole numbers (147 model frames are 160 at 48 kHz), so the live path computes every output
frame from a fixed table instead: as many frames out as the hop has, at once, at a constant delay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from streaming.overlap_add import OverlapAdd
from streaming.separator import Audio, Separator, fade_frames

USUAL_RATES_HZ = (8000, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)

FILTER_HALF_FRAMES = 32  # at the slower rate
CUTOFF = 0.48  # of the slower rate: flat to 0.44 of it (19.4 kHz of 44.1), 80 dB down from 0.52
KAISER_BETA = 7.86  # 80 dB (Kaiser 1974)


class ResamplingError(ValueError):
    """Rates that cannot be bridged, in one line."""


def resample_pieces(pieces: Iterable[Audio], from_hz: int, to_hz: int, channels: int) -> Iterator[Audio]:
    """A recording, [channels, frames] at a time, at another rate and in place in time.

    The length is the old one times the ratio, rounded to a frame. The same rate passes through to the bit.
    """
    if from_hz == to_hz:
        yield from pieces
        return
    stream = soxr.ResampleStream(from_hz, to_hz, channels, "float32", "VHQ")
    for piece in pieces:
        yield stream.resample_chunk(np.ascontiguousarray(piece.T)).T
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T


class HopResampler:
    """A linear-phase polyphase filter between two rates: a hop in, the same hop out at the other rate.

    Output frame `j` is the input at `j * from / to - delay`, band-limited by a Kaiser-windowed sinc
    (Crochiere and Rabiner 1983, ch. 4). With `least_delay` nothing is ever waited for.

    Parameters
    ----------
    from_hz, to_hz : rates
    shape : of a hop that comes in, [..., frames]
    delay : input frames, at least `least_delay(from_hz, to_hz)`

    Threads: one at a time.
    """

    def __init__(self, from_hz: int, to_hz: int, shape: tuple[int, ...], delay: Fraction) -> None:
        self._period = period_frames(from_hz, to_hz, shape[-1])
        half = half_width(from_hz, to_hz)
        past = math.ceil(delay + half)
        self._table = filter_table(self._period, self._period * to_hz // from_hz, past, delay, half)
        self._past = np.zeros((*shape[:-1], past), np.float32)

    def reset(self) -> None:
        """Forget the past, in place."""
        self._past[:] = 0.0

    def process(self, audio: Audio) -> Audio:
        """The next hop [..., frames], at the other rate."""
        line = np.concatenate([self._past, audio], axis=-1)
        self._past[:] = line[..., line.shape[-1] - self._past.shape[-1] :]
        span = self._table.shape[0]
        windows = np.lib.stride_tricks.sliding_window_view(line, span, axis=-1)[..., :: self._period, :]
        periods: Audio = windows @ self._table
        return periods.reshape(*audio.shape[:-1], -1)


def period_frames(from_hz: int, to_hz: int, hop_frames: int) -> int:
    """Input frames that one table serves: a divisor of the hop that is whole at both rates.

    About 160 is quickest: shorter ones read the same frames again and again, longer ones multiply by zeros.
    """
    least = from_hz // math.gcd(from_hz, to_hz)
    return max(p for p in range(least, max(least, 160) + 1, least) if hop_frames % p == 0)


def half_width(from_hz: int, to_hz: int) -> Fraction:
    """Half the length of the filter, in input frames."""
    return Fraction(FILTER_HALF_FRAMES * from_hz, min(from_hz, to_hz))


def least_delay(from_hz: int, to_hz: int) -> Fraction:
    """Input frames by which the output must lag so that a hop's last frame needs no later input."""
    return half_width(from_hz, to_hz) + 1 - Fraction(from_hz, to_hz)


def filter_table(period_in: int, period_out: int, past: int, delay: Fraction, half: Fraction) -> Audio:
    """Weights [past + period_in, period_out] of the frames up to a period's end for each of its outputs."""
    inputs = np.arange(-past, period_in)[:, None]
    times = np.array([float(Fraction(j * period_in, period_out) - delay) for j in range(period_out)])
    distance = inputs - times[None, :]
    band = 2.0 * CUTOFF * FILTER_HALF_FRAMES / float(half)
    weights = np.sinc(band * distance) * kaiser(distance / float(half))
    return np.asarray(weights / weights.sum(axis=0), np.float32)


def kaiser(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Kaiser window over -1..1, zero outside."""
    inside = np.sqrt(np.clip(1.0 - position**2, 0.0, None))
    return np.where(np.abs(position) < 1.0, np.i0(KAISER_BETA * inside) / np.i0(KAISER_BETA), 0.0)


class ResampledSeparator:
    """A separator at the device's rate around one at the model's: `Separator` again, fed hop by hop.

    Windows and overlap-add happen inside, at the model's rate. The latency is the model's plus twice the
    filter's half length, rounded up to a whole frame; the fraction is put into the second filter's delay.

    Parameters
    ----------
    separator : the model's
    device_rate_hz : the rate of everything outside
    channels : of the audio

    Errors: ResamplingError where a hop is not whole at the device's rate.

    Threads: as `Separator`.
    """

    def __init__(self, separator: Separator, device_rate_hz: int, channels: int = 2) -> None:
        model_rate_hz = separator.sample_rate_hz
        self._separator = separator
        self.sample_rate_hz = device_rate_hz
        self.hop_frames = self.window_frames = hop_at_rate(separator, device_rate_hz)
        self.stem_names = separator.stem_names
        ratio = Fraction(device_rate_hz, model_rate_hz)
        delay_in = least_delay(device_rate_hz, model_rate_hz)
        before_stems = separator.latency_frames * ratio + delay_in
        self.latency_frames = math.ceil(before_stems + least_delay(model_rate_hz, device_rate_hz) * ratio)
        delay_out = (self.latency_frames - before_stems) / ratio
        stems, hop = len(self.stem_names), separator.hop_frames
        arriving, leaving = (channels, self.hop_frames), (stems, channels, hop)
        self._to_model = HopResampler(device_rate_hz, model_rate_hz, arriving, delay_in)
        self._to_device = HopResampler(model_rate_hz, device_rate_hz, leaving, delay_out)
        self._overlap_add = OverlapAdd(stems, channels, hop, fade_frames(separator))
        self._window = np.zeros((channels, separator.window_frames), np.float32)
        self._contribution = np.zeros((stems, channels, hop + fade_frames(separator)), np.float32)
        self._finished = np.zeros((stems, channels, hop), np.float32)

    def warm_up(self) -> None:
        """The separator's; its windows may be shorter afterwards."""
        self._separator.warm_up()
        self._window = np.zeros((len(self._window), self._separator.window_frames), np.float32)

    def reset(self) -> None:
        for part in (self._separator, self._to_model, self._to_device, self._overlap_add):
            part.reset()
        self._window[:] = 0.0

    def separate(self, mixture: Audio, stems_out: Audio) -> None:
        """`mixture` [channels, hop_frames] to `stems_out` [stems, channels, hop_frames], both as outside."""
        clean = np.nan_to_num(mixture, nan=0.0, posinf=0.0, neginf=0.0)
        newest = self._to_model.process(clean)
        kept = self._window.shape[1] - newest.shape[1]
        self._window[:, :kept] = self._window[:, newest.shape[1] :].copy()
        self._window[:, kept:] = newest
        self._separator.separate(self._window, self._contribution)
        self._overlap_add.add(self._contribution, self._finished)
        stems_out[:] = self._to_device.process(self._finished)

    def close(self) -> None:
        self._separator.close()


def hop_at_rate(separator: Separator, device_rate_hz: int) -> int:
    """The separator's hop in device frames. Errors: ResamplingError where it is not whole."""
    if not 8000 <= device_rate_hz <= 192000:
        raise ResamplingError(f"{device_rate_hz} Hz is out of range: use a rate from 8000 to 192000 Hz.")
    hop, rate = separator.hop_frames, separator.sample_rate_hz
    if hop * device_rate_hz % rate == 0:
        return hop * device_rate_hz // rate
    whole = ", ".join(str(usual) for usual in USUAL_RATES_HZ if hop * usual % rate == 0)
    raise ResamplingError(
        f"A hop of {hop} frames at {rate} Hz is not whole at {device_rate_hz} Hz; rates that work: {whole}."
    )
