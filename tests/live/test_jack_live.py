"""`stembridge live` between an independent player and recorder on a real audio server.

The signature separator halves its input, the preset lets through one stem, the fallback is silence: what is
heard must be half of what was played, exactly the declared number of frames later. An identity could pass
while dead.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.live.jack import (
    Recording,
    frames_that_differ,
    jack_server,
    needs_server,
    play_and_record,
    start_player,
)
from tests.live.live_session import (
    EXACT,
    HALF,
    RECOVERY_S,
    STEP_TOLERANCE,
    Event,
    live,
    music,
    soft_ended_tone,
)

pytestmark = [pytest.mark.device, needs_server]

GRID = [(rate, block) for rate in (44100, 48000) for block in (64, 128, 480, 512, 1024)]


def hear_it_halved_and_late(rate_hz: int, block: int, seconds: float, folder: Path, *options: str) -> Event:
    """Run, record, compare; returns the `live` event."""
    played = music(rate_hz, seconds)
    with jack_server(rate_hz, block) as server, live(server, *EXACT, *options) as running:
        started = running.wait_for("live")
        recording = play_and_record(server, played, folder)
        end = running.end()
    assert np.array_equal(recording.played, played)
    differ = frames_that_differ(recording, started["latency_frames"], HALF)
    assert {"differ": differ, "late_hops": end["late_hops"]} == {"differ": 0, "late_hops": 0}
    return started


@pytest.mark.parametrize(
    ("rate_hz", "block"), [pytest.param(44100, 128, marks=pytest.mark.slow), (48000, 480)]
)
def test_the_recording_is_the_input_halved_and_exactly_as_late_as_declared(
    tmp_path: Path, rate_hz: int, block: int
) -> None:
    started = hear_it_halved_and_late(rate_hz, block, 5.0, tmp_path)
    assert started["block_frames"] == block


@pytest.mark.slow
@pytest.mark.parametrize(("rate_hz", "block"), GRID)
def test_the_same_for_every_block_and_rate_over_30_s(tmp_path: Path, rate_hz: int, block: int) -> None:
    hear_it_halved_and_late(rate_hz, block, 30.0, tmp_path)


def test_a_block_that_portaudio_is_asked_for_is_in_the_latency(tmp_path: Path) -> None:
    started = hear_it_halved_and_late(44100, 128, 2.0, tmp_path, "--block", "256")
    assert started["block_frames"] == 256


def test_a_killed_separator_makes_no_step_and_comes_back_at_the_same_latency(tmp_path: Path) -> None:
    rate_hz, killed_at_s = 44100, 2.0
    played = soft_ended_tone(rate_hz, 9.0)
    with jack_server(rate_hz, 128) as server, live(server, *EXACT) as running:
        started = running.wait_for("live")
        with start_player(server, played, tmp_path) as player:
            time.sleep(killed_at_s)
            os.kill(started["separator_pid"], signal.SIGKILL)
            running.wait_for("restarted", RECOVERY_S)
            recording = player.finish()
        end = running.end()
    latency = started["latency_frames"]
    clean = np.abs(np.diff(HALF * played)).max()
    assert np.abs(np.diff(recording.heard)).max() <= clean + STEP_TOLERANCE
    first, last = wrong_frames(recording, latency)
    assert last - first < RECOVERY_S * rate_hz
    assert last < played.shape[1] - rate_hz  # right again well before the end, at the same latency
    assert end["late_hops"] > 0  # it was counted


def wrong_frames(recording: Recording, latency: int) -> tuple[int, int]:
    """The first and the last frame that is not half of what was played `latency` before."""
    expected = np.float32(HALF) * recording.played[:, :-latency]
    wrong = np.flatnonzero(np.any(recording.heard[:, latency:] != expected, axis=0))
    assert wrong.size, "the killed separator was not heard: was it the right process?"
    return int(wrong[0]), int(wrong[-1])


def test_ctrl_c_fades_before_it_ends(tmp_path: Path) -> None:
    """A constant input would end in a step of its height if the stream just stopped."""
    rate_hz = 44100
    steady = np.full((2, 3 * rate_hz), 0.5, np.float32)
    with jack_server(rate_hz, 128) as server, live(server, "--preset", "acapella") as running:
        running.wait_for("live")
        with start_player(server, steady, tmp_path) as player:
            time.sleep(1.5)
            running.end()
            heard = player.finish().heard
    assert np.abs(heard[:, rate_hz]).min() > 0.2 and not heard[:, -100:].any()
    fall = heard[:, rate_hz:]
    assert np.abs(np.diff(fall)).max() < 0.01


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rate", "96000"), "96000 Hz is refused"),
        (("--in-channels", "1,7"), "channel 7 was asked for"),
    ],
)
def test_a_device_that_cannot_be_had_is_one_line_and_exit_code_2(options: tuple[str, ...], says: str) -> None:
    with jack_server(44100, 512) as server, live(server, *options) as running:
        _, errors = running.process.communicate(timeout=120)
        assert running.process.returncode == 2
    lines = [line for line in errors.splitlines() if line.strip()]
    assert says in lines[-1]
    assert not any("Traceback" in line for line in lines)
