"""The signature separator: what went in, delayed and halved, beside the number of the hop."""

import numpy as np
import pytest

from streaming.separator import SIGNATURE_PERIOD_HOPS, STANDARD_STEMS, SignatureSeparator, fade_frames
from tests.streaming.rig import delayed, noise


def separate(stage, signal):
    """Stems [stems, channels, frames], hop after hop; frame i is stem frame i - latency + hop."""
    hops = signal.shape[1] // stage.hop_frames
    out = np.zeros((len(stage.stem_names), 2, hops * stage.hop_frames), np.float32)
    for hop in range(hops):
        part = slice(hop * stage.hop_frames, (hop + 1) * stage.hop_frames)
        stage.separate(signal[:, part], out[:, :, part])
    return out


@pytest.mark.parametrize("latency", [441, 442, 882, 1000, 3000])
def test_stems_are_half_the_input_delayed(latency):
    stage, signal = SignatureSeparator(latency_frames=latency), noise(20 * 441)
    out = separate(stage, signal)
    for stem in out[:-1]:
        assert np.array_equal(stem, delayed(signal * np.float32(0.5), latency - 441))


def test_the_last_stem_is_the_number_of_the_hop():
    stage = SignatureSeparator(hop_frames=2, latency_frames=2)
    out = separate(stage, noise(2 * (SIGNATURE_PERIOD_HOPS + 3)))
    numbers = np.arange(SIGNATURE_PERIOD_HOPS + 3) % SIGNATURE_PERIOD_HOPS + 1
    assert np.array_equal(out[-1, 0] * 2048, np.repeat(numbers, 2))
    stage.reset()
    assert separate(stage, noise(2))[-1, 0, 0] == 1 / 2048


def test_it_is_a_standard_separator_without_a_fade():
    stage = SignatureSeparator()
    assert stage.stem_names == STANDARD_STEMS
    assert fade_frames(stage) == 0


def test_a_latency_below_the_hop_is_refused():
    with pytest.raises(ValueError, match="440 frames"):
        SignatureSeparator(latency_frames=440)
