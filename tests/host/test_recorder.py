"""Recorder and hand-cranked engine: what came is kept at its frame, and mixed by the live engine's law."""

import numpy as np
import pytest

from host.demo import preset_controls
from host.recorder import Recorder, Recording
from host.render import render_mix
from streaming.session import SessionSpec
from streaming.snapshot import neutral_controls
from streaming.timeline import HEADER_WORDS, Timeline

STEMS = ("vocals", "drums", "bass", "other")


def timeline(capacity=1000):
    return Timeline(np.zeros(HEADER_WORDS, np.int64), np.zeros((2, capacity), np.float32))


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("step", [1, 64, 65, 441])
def test_a_recorder_keeps_every_frame_at_its_place(step) -> None:
    audio, line = noise(2, 2000), timeline()
    recorder = Recorder([line], 1900)
    for start in range(0, 2000, step):
        line.write(start, audio[:, start : start + step])
        recorder.poll()
    np.testing.assert_array_equal(recorder.recording.audio[0], audio[:, :1900])
    assert recorder.recording.present.all()


def test_a_gap_and_what_was_overtaken_stay_silent_and_are_told() -> None:
    audio, line = noise(2, 4000), timeline(capacity=1000)
    recorder = Recorder([line], 4000)
    line.write(100, audio[:, 100:200])
    recorder.poll()
    line.write(300, audio[:, 300:400])
    recorder.poll()
    line.write(400, audio[:, 400:2400])
    recorder.poll()
    present = np.zeros(4000, bool)
    present[100:200] = present[300:400] = present[1400:2400] = True
    np.testing.assert_array_equal(recorder.recording.present[0], present)
    np.testing.assert_array_equal(recorder.recording.audio[0], audio * present)


def spec(chained=(False,) * 4):
    return SessionSpec(44100, 2, STEMS, 441, 882, chained, 4096)


def recordings(frames, seed):
    everything = np.ones((4, frames), bool)
    return Recording(noise(4, 2, frames, seed=seed), everything)


@pytest.mark.parametrize("block", [64, 65, 441, 2000])
def test_unity_gains_give_the_input_back(block) -> None:
    dry, stems = noise(2, 3000), recordings(3000, 1)
    np.testing.assert_array_equal(render_mix(spec(), neutral_controls(), dry, stems, stems, block), dry)


def test_karaoke_is_the_input_without_the_vocals_stem() -> None:
    dry, stems = noise(2, 3000), recordings(3000, 1)
    mixed = render_mix(spec(), preset_controls("karaoke", STEMS), dry, stems, stems, 128)
    np.testing.assert_allclose(mixed, dry - stems.audio[0], atol=1e-7)


def test_a_chain_replaces_its_stem() -> None:
    dry, raw, wet = noise(2, 3000), recordings(3000, 1), recordings(3000, 2)
    chained = (False, True, False, False)
    mixed = render_mix(spec(chained), preset_controls("karaoke", STEMS), dry, raw, wet, 128)
    np.testing.assert_allclose(mixed, dry - raw.audio[0] - raw.audio[1] + wet.audio[1], atol=1e-7)


def test_a_missing_stem_fades_to_the_dry_signal_and_back() -> None:
    dry, stems = noise(2, 12800), recordings(12800, 1)
    stems.present[0, 3000:6000] = False
    mixed = render_mix(spec(), preset_controls("karaoke", STEMS), dry, stems, stems, 128)
    without = dry - stems.audio[0]
    np.testing.assert_allclose(mixed[:, :2944], without[:, :2944], atol=1e-7)
    np.testing.assert_array_equal(mixed[:, 3600:5900], dry[:, 3600:5900])
    np.testing.assert_allclose(mixed[:, 7000:], without[:, 7000:], atol=1e-7)
