"""Resampling keeps length and place: whole files to the frame, live hops at exactly the declared latency."""

from __future__ import annotations

import numpy as np
import pytest

from host.resampling import HopResampler, ResampledSeparator, ResamplingError, least_delay, resample_pieces
from streaming.separator import Audio, SignatureSeparator

RATES_HZ = (8000, 16000, 32000, 48000, 88200, 96000, 176400, 192000)


class SlidingIdentity:
    """A windowed separator with one stem, the mixture: look-ahead A, fade X, hop H, latency A + X + H."""

    sample_rate_hz = 44100
    hop_frames, fade_frames, look_ahead, window_frames = 882, 147, 100, 4410
    latency_frames = look_ahead + fade_frames + hop_frames
    stem_names = ("all",)

    def warm_up(self) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...

    def separate(self, mixture: Audio, stems_out: Audio) -> None:
        end = self.window_frames - self.look_ahead
        stems_out[0] = mixture[:, end - self.fade_frames - self.hop_frames : end]


def pass_band_noise(rate_hz: int, frames: int) -> Audio:
    """Noise below 0.43 of the slower rate that swells and ebbs, [2, frames]."""
    spectrum = np.fft.rfft(np.random.default_rng(3).standard_normal((2, frames)))
    spectrum[:, np.fft.rfftfreq(frames, 1 / rate_hz) > 0.43 * min(rate_hz, 44100)] = 0
    return (np.hanning(frames) * np.fft.irfft(spectrum, frames)).astype(np.float32)


def run_through(separator: ResampledSeparator, audio: Audio) -> Audio:
    """The first stem of `audio`, hop by hop, same length."""
    hop = separator.hop_frames
    stems = np.zeros((len(separator.stem_names), 2, hop), np.float32)
    result = np.zeros_like(audio)
    for start in range(0, audio.shape[1], hop):
        separator.separate(audio[:, start : start + hop], stems)
        result[:, start : start + hop] = stems[0]
    return result


def error_db(heard: Audio, expected: Audio) -> float:
    return float(10 * np.log10(np.sum((heard - expected) ** 2) / np.sum(expected**2)))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_sound_comes_out_at_exactly_the_declared_latency(rate_hz: int) -> None:
    separator = ResampledSeparator(SignatureSeparator(44100), rate_hz)
    noise = pass_band_noise(rate_hz, 100 * separator.hop_frames)
    heard = run_through(separator, noise)
    lag = (
        separator.latency_frames - separator.hop_frames
    )  # a hop's stems are given when its last frame is known
    errors = [
        error_db(heard[:, shift:], 0.5 * noise[:, : noise.shape[1] - shift])
        for shift in (lag - 1, lag, lag + 1)
    ]
    assert int(np.argmin(errors)) == 1
    assert errors[1] < -60


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_latency_is_the_models_plus_the_filters_rounded_up(rate_hz: int) -> None:
    separator = ResampledSeparator(SignatureSeparator(44100), rate_hz)
    exact = (882 / 44100 + 2 * 32 / min(rate_hz, 44100)) * rate_hz
    assert exact - 1e-6 <= separator.latency_frames < exact + 1


class Shortened(SlidingIdentity):
    """Has memory for half its window, as it finds in the warm-up."""

    def warm_up(self) -> None:
        self.window_frames = 2205


def test_a_window_that_was_halved_in_the_warm_up_is_heard_at_the_same_place() -> None:
    whole, halved = ResampledSeparator(SlidingIdentity(), 48000), ResampledSeparator(Shortened(), 48000)
    for separator in (whole, halved):
        separator.warm_up()
    noise = pass_band_noise(48000, 20 * 960)
    np.testing.assert_array_equal(run_through(halved, noise), run_through(whole, noise))


def test_windows_and_fades_are_worked_at_the_models_rate() -> None:
    separator = ResampledSeparator(SlidingIdentity(), 48000)
    assert (separator.hop_frames, separator.window_frames) == (960, 960)
    noise = pass_band_noise(48000, 60 * 960)
    heard = run_through(separator, noise)
    lag = separator.latency_frames - 960
    assert error_db(heard[:, lag:], noise[:, :-lag]) < -60


def test_a_reset_leaves_nothing_of_the_past() -> None:
    separator = ResampledSeparator(SlidingIdentity(), 48000)
    noise = pass_band_noise(48000, 8 * 960)
    first = run_through(separator, noise)
    separator.reset()
    assert np.array_equal(run_through(separator, noise), first)


def test_every_hop_is_worked_alike_for_ever() -> None:
    """A tone whose period is the hop comes out as one and the same hop, to the bit, 20000 hops long."""
    resampler = HopResampler(48000, 44100, (1, 480), least_delay(48000, 44100))
    tone = np.sin(2 * np.pi * 7 * np.arange(480) / 480, dtype=np.float32)[None]
    settled = [resampler.process(tone) for _ in range(10)][-1]
    assert settled.shape == (1, 441)
    assert all(np.array_equal(resampler.process(tone), settled) for _ in range(20000))


def test_input_that_is_no_number_counts_as_nothing() -> None:
    separator = ResampledSeparator(SignatureSeparator(44100), 48000)
    bad = pass_band_noise(48000, 20 * 480)
    zeroed = bad.copy()
    bad[0, 1000], bad[1, 1003], bad[0, 2000] = np.nan, np.inf, -np.inf
    zeroed[0, 1000] = zeroed[1, 1003] = zeroed[0, 2000] = 0
    heard = run_through(separator, bad)
    separator.reset()
    assert np.array_equal(heard, run_through(separator, zeroed))


def test_a_hop_that_is_not_whole_names_the_rates_that_work() -> None:
    with pytest.raises(
        ResamplingError, match=r"not whole at 22050 Hz; rates that work: 8000, .*48000"
    ) as caught:
        ResampledSeparator(SignatureSeparator(44100), 22050)
    assert "22050" not in str(caught.value).split("work:")[1]


@pytest.mark.parametrize("rate_hz", [0, -44100, 7999, 384000])
def test_a_rate_out_of_range_is_refused(rate_hz: int) -> None:
    with pytest.raises(ResamplingError, match="out of range"):
        ResampledSeparator(SignatureSeparator(44100), rate_hz)


def resampled(audio: Audio, from_hz: int, to_hz: int, *cuts: int) -> Audio:
    pieces = np.split(audio, cuts, axis=1)
    return np.concatenate(list(resample_pieces(pieces, from_hz, to_hz, audio.shape[0])), axis=1)


@pytest.mark.parametrize(("rate_hz", "frames"), [(8000, 2), (22050, 10001), (48000, 4801), (192000, 19201)])
def test_a_file_there_and_back_stays_in_place(rate_hz: int, frames: int) -> None:
    noise = pass_band_noise(rate_hz, frames)
    there = resampled(noise, rate_hz, 44100)
    assert there.shape == (2, round(frames * 44100 / rate_hz))
    back = resampled(there, 44100, rate_hz)
    assert abs(back.shape[1] - frames) <= max(1, rate_hz // 44100) and back.dtype == np.float32
    if frames > 2:
        inner = slice(frames // 4, -frames // 4)
        assert error_db(back[:, : noise.shape[1]][:, inner], noise[:, : back.shape[1]][:, inner]) < -60


@pytest.mark.parametrize("cuts", [(0,), (1, 64, 65), (128, 128, 4000)])
def test_pieces_make_no_difference(cuts: tuple[int, ...]) -> None:
    noise = pass_band_noise(48000, 4801)
    np.testing.assert_array_equal(resampled(noise, 48000, 44100, *cuts), resampled(noise, 48000, 44100))


def test_the_same_rate_passes_to_the_bit() -> None:
    noise = pass_band_noise(44100, 1000)
    np.testing.assert_array_equal(resampled(noise, 44100, 44100, 10), noise)
