"""What every stage between timelines must keep, whatever works inside."""

import dataclasses

import numpy as np
import pytest
import torch

from host.plugins import Chain
from host.resampling import ResampledSeparator
from model.config import WHOLE_SIGNAL
from model.roformer import build
from model.separators import CausalSeparator
from model.window_framing import WindowFraming
from model.windowed import WindowedSeparator
from streaming.overlap_add import OverlapAdd
from streaming.separator import SignatureSeparator, fade_frames
from tests.model.builders import random_model, small
from tests.model.test_roformer import SHORT
from tests.model.test_windowed import unity_masks

EFFECTS = [
    {"plugin": "Compressor", "threshold_db": -30, "ratio": 4},
    {"plugin": "Gain", "gain_db": -3.0},
    {"plugin": "Delay", "delay_seconds": 0.02, "mix": 0.1},
]


def chain(hop_frames):
    return lambda: Chain("vocals", EFFECTS, 44100, hop_frames, 2)


def causal(profile):
    return lambda: CausalSeparator(random_model(small(profile)))


def windowed():
    config = dataclasses.replace(SHORT, n_fft=882, win_frames=882, stft_hop_frames=147, bands=(13,) * 34)
    torch.manual_seed(2)
    return WindowedSeparator(unity_masks(build(config), 0.5), WindowFraming(3528, 441, 882, 147))


def windowed_of_ours():
    config = dataclasses.replace(small("live"), look_ahead_frames=WHOLE_SIGNAL)
    return WindowedSeparator(random_model(config), WindowFraming(4410, 882, 441, 441))


STAGES = {
    "signature": SignatureSeparator,
    "signature with an odd latency": lambda: SignatureSeparator(latency_frames=1000),
    "causal stage": causal("stage"),
    "causal live": causal("live"),
    "causal studio": causal("studio"),
    "signature at 48 kHz": lambda: ResampledSeparator(SignatureSeparator(), 48000),
    "signature at 96 kHz": lambda: ResampledSeparator(SignatureSeparator(), 96000),
    "causal stage at 48 kHz": lambda: ResampledSeparator(causal("stage")(), 48000),
    "causal studio at 48 kHz": lambda: ResampledSeparator(causal("studio")(), 48000),
    "windowed": windowed,
    "windowed, of ours": windowed_of_ours,
    "windowed at 48 kHz": lambda: ResampledSeparator(windowed(), 48000),
    "chain": chain(441),
    "chain of short hops": chain(1),
}
HOPS = 24


@pytest.fixture(params=STAGES)
def make(request):
    """Makes warm stages; closes them in the end."""
    made = []

    def build():
        made.append(STAGES[request.param]())
        made[-1].warm_up()
        return made[-1]

    yield build
    for stage in made:
        stage.close()


def noise(stage, seed=0):
    frames = max(HOPS * stage.hop_frames, 4000) // stage.hop_frames * stage.hop_frames
    return np.random.default_rng(seed).normal(0, 0.1, (2, frames)).astype(np.float32)


def play(stage, audio, spoil=False):
    """Stems [stems, channels, frames] on the frames of `audio`: hop by hop, in windows, cross-faded.

    `spoil` scribbles over the caller's arrays after every call.
    """
    hop, stems = stage.hop_frames, len(stage.stem_names)
    padded = np.concatenate([np.zeros((2, stage.window_frames - hop), np.float32), audio], axis=1)
    overlap_add = OverlapAdd(stems, 2, hop, fade_frames(stage))
    contribution = np.full((stems, 2, hop + fade_frames(stage)), np.nan, np.float32)
    finished, hops = np.zeros((stems, 2, hop), np.float32), []
    for end in range(stage.window_frames, padded.shape[1] + 1, hop):
        window = padded[:, end - stage.window_frames : end].copy()
        before = window.copy()
        stage.separate(window, contribution)
        assert np.array_equal(window, before, equal_nan=True), "the mixture is the caller's"
        overlap_add.add(contribution, finished)
        hops.append(finished.copy())
        if spoil:
            window[:] = contribution[:] = 7.0
        else:
            contribution[:] = np.nan
    return np.concatenate(hops, axis=2)[:, :, stage.latency_frames - hop :]


def test_it_says_what_it_is(make):
    stage = make()
    for number in (stage.sample_rate_hz, stage.window_frames, stage.hop_frames, stage.latency_frames):
        assert type(number) is int
    assert stage.window_frames >= stage.hop_frames >= 1
    assert stage.latency_frames >= stage.hop_frames
    assert 0 <= fade_frames(stage) <= stage.hop_frames
    assert len(set(stage.stem_names)) == len(stage.stem_names) >= 1


def test_every_frame_that_it_hands_out_is_written_and_finite(make):
    stage = make()
    assert np.isfinite(play(stage, noise(stage))).all()


def test_reset_equals_fresh(make):
    used, fresh = make(), make()
    play(used, noise(used, seed=1))
    used.reset()
    assert np.array_equal(play(used, noise(used)), play(fresh, noise(fresh)))


def test_warming_up_leaves_no_trace(make):
    once, twice = make(), make()
    twice.warm_up()
    assert np.array_equal(play(twice, noise(twice)), play(once, noise(once)))


def test_the_past_matters_until_a_reset(make):
    """Or `reset equals fresh` would prove nothing. A window longer than a hop brings its past along."""
    stage = make()
    first = play(stage, noise(stage))
    brings_its_past = stage.window_frames > stage.hop_frames
    assert np.array_equal(play(stage, noise(stage)), first) == brings_its_past


def test_input_that_is_not_finite_counts_as_zero(make):
    stage = make()
    broken = noise(stage)
    broken[0, 100:300], broken[1, 500], broken[:, 1000:1441] = np.nan, np.inf, -np.inf
    clean = np.where(np.isfinite(broken), broken, np.float32(0))
    heard = play(stage, broken)
    stage.reset()
    assert np.array_equal(heard, play(stage, clean))


def test_the_callers_arrays_are_neither_kept_nor_changed(make):
    stage = make()
    heard = play(stage, noise(stage))
    stage.reset()
    assert np.array_equal(heard, play(stage, noise(stage), spoil=True))


def test_the_latency_is_honest(make):
    """The stems are where the input is: their cross-correlation is highest at lag 0."""
    stage = make()
    audio = noise(stage)
    stem = play(stage, audio)[0, 0]
    lags = range(-50, 51)
    middle = slice(100, len(stem) - 100)
    likeness = [abs(np.dot(stem[middle], np.roll(audio[0], lag)[: len(stem)][middle])) for lag in lags]
    assert lags[int(np.argmax(likeness))] == 0
