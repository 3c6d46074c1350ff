"""The compiled block: nothing is lost, the law is the law, fades never step, counts are exact."""

import numpy as np
import pytest

from streaming import health
from streaming.callback import Engine
from streaming.snapshot import RESIDUAL
from tests.streaming.law import FADE_FRAMES, RAMP_FRAMES, restate
from tests.streaming.rig import (
    HOP,
    RATE_HZ,
    STEMS,
    PatchyStems,
    controls,
    delayed,
    noise,
    open_session,
    play,
    publish_plan,
)

SIZES = [1, 64, 65, 128, HOP - 1, HOP, HOP + 1, 1024, 1025, 2500]
CHAINED = (True, False, True)


def random_controls(rng):
    """Any fader, switch and fallback."""
    strips = [*range(len(STEMS)), RESIDUAL]
    return controls(
        mute=[strip for strip in strips if rng.random() < 0.25],
        solo=[strip for strip in strips if rng.random() < 0.15],
        gain={strip: rng.choice([1.0, 0.0, rng.uniform(0.0, 2.0)]) for strip in strips},
        bypass=int(rng.random() < 0.15),
        fallback_silence=int(rng.random() < 0.5),
        output_gain=rng.uniform(0.3, 1.2),
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fallback_silence", [0, 1])
def test_at_unity_the_output_is_the_input_to_the_bit_however_many_stems_are_there(seed, fallback_silence):
    latency, signal = 1000, noise(60_000, seed, level=1.0)
    signal[:, 20_000:30_000] *= 1e-12  # quiet beside loud stems
    signal[:, 40_000:45_000] = 0.0
    with open_session(chained=CHAINED) as session:
        session.controls.publish(controls(fallback_silence=fallback_silence))
        publish_plan(session, 1, latency)
        stems = PatchyStems(session, 60_000, latency, seed, level=1.0)
        out = play(Engine(session), signal, SIZES, before=stems.before)
        assert session.health.count(health.LATE_HOPS) > 10
    assert np.array_equal(out, delayed(signal, latency))


def test_bypass_is_the_input_to_the_bit():
    signal = noise(5000, level=1.0)
    signal[:, 2000:] *= 1e-9
    with open_session(chained=CHAINED) as session:
        session.controls.publish(controls(bypass=1, output_gain=0.1, mute=[0], gain={1: 3.0}))
        publish_plan(session, 1, 7)
        stems = PatchyStems(session, 5000, 7, seed=1, wet_is_raw=False, level=1.0)
        out = play(Engine(session), signal, SIZES, before=stems.before)
    assert np.array_equal(out, delayed(signal, 7))


@pytest.mark.parametrize("seed", range(4))
def test_the_law_equals_its_plain_restatement(seed):
    rng, signal = np.random.default_rng(seed), noise(8_000, seed, level=0.1)
    records = {}
    with open_session(chained=CHAINED) as session:
        publish_plan(session, 1, 0)
        stems = PatchyStems(session, 8_000, 0, seed, wet_is_raw=False, level=0.1)

        def before(first, end):
            if first > 0 and rng.random() < 0.3:
                records[first] = random_controls(rng)
                session.controls.publish(records[first])
            stems.before(first, end)

        records[0] = random_controls(rng)
        session.controls.publish(records[0])
        out = play(Engine(session), signal, rng.integers(1, 1500, 50).tolist(), before=before)
    expected = restate(signal, stems.raw, stems.wet, stems.there, records)
    assert np.abs(expected).max() < 1.0  # below the limiter
    assert np.abs(out - expected).max() < 1e-6


def sines(frames, level=0.2):
    """Dry and stems that move by little from sample to sample; dry is their sum and something more."""
    time = np.arange(frames) / RATE_HZ
    stems = [
        level * np.sin(2 * np.pi * frequency * time + phase)
        for frequency, phase in ((50, 1.0), (80, 2.0), (110, 3.0))
    ]
    rest = level * np.cos(2 * np.pi * 65 * time)
    stems = np.repeat(np.array(stems)[:, None], 2, axis=1).astype(np.float32)
    return stems.sum(axis=0) + rest.astype(np.float32), stems


@pytest.mark.parametrize("seed", range(4))
def test_fades_never_step_whatever_fails_and_whoever_turns_what(seed):
    rng, frames = np.random.default_rng(seed), 80_000
    dry, tones = sines(frames)
    with open_session(chained=CHAINED) as session:
        publish_plan(session, 1, 0)
        stems = PatchyStems(session, frames, 0, seed)
        stems.raw = stems.wet = tones

        def before(first, end):
            if rng.random() < 0.2:
                session.controls.publish(random_controls(rng))
            if rng.random() < 0.02:
                publish_plan(session, int(rng.integers(0, 3)), 0)
            stems.before(first, end)

        out = play(Engine(session), dry.astype(np.float32), SIZES, before=before)
    tone_step = np.abs(np.diff(dry)).max() * 2.0 * 1.2  # faders go to 2, output gain to 1.2
    ramp_step = 2.0 * np.abs(dry).max() * 4 / RAMP_FRAMES
    assert np.abs(np.diff(out)).max() < tone_step + ramp_step < 0.15
    assert np.abs(out).max() > 0.5


def outage(session, record, stem=0, frames=20_000, off=(6_000, 12_000)):
    """Dry, stems and output where stem `stem` is missing in frames `off`."""
    signal = noise(frames, 5, level=0.2)
    voices = np.stack([noise(frames, 10 + s, level=0.2) for s in range(len(STEMS))])
    dry = signal + voices.sum(axis=0)

    def before(first, end):
        for s, timeline in enumerate(session.raw):
            if s != stem or not off[0] <= first < off[1]:
                timeline.write(first, np.ascontiguousarray(voices[s, :, first:end]))

    session.controls.publish(record)
    publish_plan(session, 1, 0)
    return dry, voices, play(Engine(session), dry, 100, before=before)


@pytest.mark.parametrize("how", [{"mute": [0]}, {"solo": [1, 2, RESIDUAL]}, {"gain": {0: 0.0}}])
def test_under_fallback_silence_a_silenced_voice_never_leaks_while_its_stem_is_missing(how):
    with open_session() as session:
        dry, voices, out = outage(session, controls(fallback_silence=1, **how))
    others = voices[1] + voices[2]
    assert np.abs(out[:, 1000:6000] - (dry - voices[0])[:, 1000:6000]).max() < 1e-6
    silent_from = 6000 + FADE_FRAMES
    assert np.array_equal(out[:, silent_from:12_000], others[:, silent_from:12_000])
    assert np.abs(out[:, 13_000:] - (dry - voices[0])[:, 13_000:]).max() < 1e-6


def test_under_fallback_silence_a_voice_turned_down_leaks_no_louder_than_it_sounds():
    with open_session() as session:
        dry, voices, out = outage(session, controls(fallback_silence=1, gain={0: 0.25}))
    rest = dry - voices.sum(axis=0)
    expected = voices[1] + voices[2] + 0.25 * (rest + voices[0])
    assert np.abs(out - expected)[:, 6000 + FADE_FRAMES : 12_000].max() < 1e-6


def test_under_fallback_dry_an_acapella_rises_to_the_dry_signal_and_returns():
    with open_session() as session:
        dry, voices, out = outage(session, controls(solo=[0]))
    assert np.abs(out - voices[0])[:, :6000].max() < 1e-6
    missing = slice(6000 + FADE_FRAMES, 12_000)
    assert np.abs(out - (dry - voices[1] - voices[2]))[:, missing].max() < 1e-6  # all that is left of the dry
    assert np.abs(out - voices[0])[:, 12_000 + FADE_FRAMES :].max() < 1e-6


def test_where_every_stem_is_missing_an_acapella_under_fallback_dry_is_the_dry_signal():
    signal = noise(5000)
    with open_session() as session:
        session.controls.publish(controls(solo=[0]))
        publish_plan(session, 1, 0)
        out = play(Engine(session), signal, 64)
    assert np.array_equal(out[:, FADE_FRAMES:], signal[:, FADE_FRAMES:])


def test_a_fade_is_finished_once_begun():
    """One missing frame: the stem goes down all the way, and only then comes back."""
    stem, frames = np.full((2, 3000), 0.5, np.float32), 3000
    with open_session() as session:
        session.controls.publish(controls(solo=[0], fallback_silence=1))
        publish_plan(session, 1, 0)

        def before(first, end):
            if first != 1000:
                session.raw[0].write(first, stem[:, first:end])

        out = play(Engine(session), np.zeros((2, frames), np.float32), 1, before=before)
    down = 0.5 * np.arange(FADE_FRAMES - 1, -1, -1) / FADE_FRAMES
    up = 0.5 * np.arange(1, FADE_FRAMES + 1) / FADE_FRAMES
    expected = np.concatenate([np.full(1000, 0.5), down, up, np.full(frames - 1000 - 2 * FADE_FRAMES, 0.5)])
    assert np.abs(out[0] - expected).max() < 1e-6


def brute_force_lateness(there, latency, phase):
    """(late hops, missing frames): stem frames below 0 are never missing."""
    frames = np.arange(there.shape[1]) - latency
    missing = frames[~there.all(axis=0) & (frames >= 0)]
    return len({(frame - phase) // HOP for frame in missing}), len(missing)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stem_latency", [2 * HOP, 1000])
def test_late_hops_and_missing_frames_are_counted_exactly(seed, stem_latency):
    frames, latency = 60_000, 1300
    sizes = np.random.default_rng(seed).integers(1, 700, 200).tolist()
    with open_session(stem_latency=stem_latency, chained=CHAINED) as session:
        publish_plan(session, 1, latency)
        stems = PatchyStems(session, frames, latency, seed)
        play(Engine(session), noise(frames), sizes, before=stems.before)
        counted = session.health.count(health.LATE_HOPS), session.health.count(health.MISSING_FRAMES)
        phase = session.spec.hop_phase_frames
    assert phase == -stem_latency % HOP
    assert counted == brute_force_lateness(stems.there, latency, phase)
    assert 10 < counted[0] < frames // HOP


def test_a_change_of_latency_fades_through_silence_and_is_renumbered():
    signal, first_latency, second_latency, change = noise(20_000), 500, 1500, 8000
    epochs = []
    with open_session() as session:
        publish_plan(session, 1, first_latency)

        def before(first, end):
            if first == change:
                publish_plan(session, 2, second_latency)

        out = play(
            Engine(session), signal, 100, before, lambda: epochs.append(session.health.count(health.EPOCH))
        )
    closed = change + FADE_FRAMES
    opening = -(-closed // 100) * 100  # from the next block on
    down = np.arange(FADE_FRAMES - 1, -1, -1) / FADE_FRAMES
    up = np.arange(1, FADE_FRAMES + 1) / FADE_FRAMES
    old, new = delayed(signal, first_latency), delayed(signal, second_latency)
    assert np.array_equal(out[:, :change], old[:, :change])
    assert np.abs(out[:, change:closed] - down * old[:, change:closed]).max() < 1e-6
    assert not out[:, closed - 1 : opening].any()
    opened = slice(opening, opening + FADE_FRAMES)
    assert np.abs(out[:, opened] - up * new[:, opened]).max() < 1e-6
    assert np.array_equal(out[:, opened.stop :], new[:, opened.stop :])
    assert epochs == [1] * (opening // 100 - 1) + [2] * (200 - opening // 100 + 1)


def test_epoch_0_fades_to_silence_and_stays_there():
    signal = noise(10_000)
    with open_session() as session:
        publish_plan(session, 1, 0)
        silent = []

        def before(first, end):
            if first == 5000:
                publish_plan(session, 0, 0)

        out = play(
            Engine(session), signal, 50, before, lambda: silent.append(session.health.count(health.SILENT))
        )
        assert session.health.count(health.EPOCH) == 0
    assert np.array_equal(out[:, :5000], signal[:, :5000])
    assert not out[:, 5000 + FADE_FRAMES - 1 :].any()
    assert silent == [0] * 108 + [1] * 92


def test_the_demolition_input_leaves_finite_and_under_the_ceiling():
    rng, part = np.random.default_rng(0), 3000
    loud = rng.uniform(-1, 1, (2, part)).astype(np.float32)
    denormal = (rng.uniform(-1, 1, (2, part)) * 1e-40).astype(np.float32)
    parts = [loud, denormal, *(np.full((2, part), x, np.float32) for x in (3.4e38, -3.4e38))]
    parts += [np.full((2, part), x, np.float32) for x in (np.inf, -np.inf, np.nan)]
    signal = np.concatenate([*parts, np.zeros((2, part), np.float32), loud], axis=1)
    frames = signal.shape[1]
    with open_session(chained=CHAINED) as session:
        session.controls.publish(controls(gain={0: 2.0, 1: 0.0, RESIDUAL: 3.0}, output_gain=4.0))
        publish_plan(session, 1, 0)
        stems = PatchyStems(session, frames, 0, 3, wet_is_raw=False, level=2.0)
        stems.raw[:, :, : frames // 2] = 3.4e38
        out = play(Engine(session), signal, SIZES, before=stems.before)
        assert session.health.count(health.NONFINITE_IN) == 2 * 3 * part
        assert session.health.count(health.LIMITED_BLOCKS) > 0
        assert np.isfinite(session.health.peaks).all()
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1.0
    assert np.abs(out[:, -part:]).max() > 0.1


def test_stem_frames_that_are_not_finite_are_missing():
    signal, stem = noise(5000), noise(5000, 1)
    stem[1, 250] = np.nan
    with open_session(("vocals",)) as session:
        publish_plan(session, 1, 0)
        session.raw[0].write(0, stem)
        out = play(Engine(session), signal, 100)
        assert session.health.count(health.MISSING_FRAMES) == 50  # to the end of its block
    assert np.array_equal(out, signal)
