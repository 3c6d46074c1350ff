"""OSC programs and effect chains change what an independent recorder hears of `stembridge live`.

The signature separator's first stems are half the input each, so every setting of the desk has a gain of its
own between what was played and what was heard.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from pedalboard import BrickwallLimiter, Compressor, Gain, Pedalboard

from tests.live.hearing import gains_heard, largest_step
from tests.live.jack import (
    Recording,
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
    live,
    music,
    soft_ended_tone,
)
from tests.live.osc_programs import needs_liblo, needs_pure_data, oscsend, pure_data, subscribed_oscdump

pytestmark = [pytest.mark.device, needs_server]

RATE_HZ, BLOCK = 44100, 128
STAGE_S = 0.4  # how long each setting of the desk is heard
HALF_DB = "-6.0206"  # another half; liblo sends it as float32


def gains_between(
    recording: Recording, latency: int, gains: Iterable[float], tolerance: float = 1e-6
) -> list[float]:
    """As `gains_heard`, of a recording that is `latency` frames late."""
    return gains_heard(recording.played[:, :-latency], recording.heard[:, latency:], gains, tolerance)


@needs_liblo
def test_oscsend_changes_what_is_heard_and_oscdump_shows_it(tmp_path: Path) -> None:
    with jack_server(RATE_HZ, BLOCK) as server, live(server, *EXACT) as running:
        started = running.wait_for("live")
        with (
            subscribed_oscdump(running.osc_port) as dump,
            start_player(server, music(RATE_HZ, 4.5), tmp_path) as player,
        ):
            for words in (
                ("/stem/vocals/gain_db", "f", HALF_DB),
                ("/stem/vocals/mute", "i", "1"),
                ("/stem/vocals/mute", "F"),
                ("/stem/drums/solo", "T"),
                ("/bypass", "i", "1"),
                ("/bypass", "i", "0"),
                ("/preset/load", "s", "karaoke"),
            ):
                time.sleep(STAGE_S)
                oscsend(running.osc_port, *words)
            recording = player.finish()
            shown = dump.shown(11)
        end = running.end()
    steps = [0.5, 0.25, 0.0, 0.25, 0.75, 1.0, 0.75, 0.5]
    assert gains_between(recording, started["latency_frames"], steps) == steps
    assert shown == [
        ["/stem/vocals/gain_db", "f", "-6.020600"],
        ["/stem/vocals/mute", "i", "1"],
        ["/stem/vocals/mute", "i", "0"],
        ["/stem/drums/solo", "i", "1"],
        ["/bypass", "i", "1"],
        ["/bypass", "i", "0"],
        ["/stem/vocals/mute", "i", "1"],
        ["/stem/residual/mute", "i", "0"],
        ["/stem/vocals/solo", "i", "0"],
        ["/stem/drums/solo", "i", "0"],
        ["/preset/load", "s", '"karaoke"'],
    ]
    assert end["late_hops"] == 0


@needs_pure_data
def test_pure_data_turns_a_switch_and_hears_of_others(tmp_path: Path) -> None:
    with jack_server(RATE_HZ, BLOCK) as server, live(server, *EXACT) as running:
        started = running.wait_for("live")
        with start_player(server, music(RATE_HZ, 4.0), tmp_path) as player:
            time.sleep(STAGE_S)
            with pure_data(running.osc_port, "subscribe bang", "mute 1") as surface:
                read_until(surface.stderr, "stem vocals mute 1")
                time.sleep(STAGE_S)
                oscsend(running.osc_port, "/stem/vocals/mute", "i", "0")
                read_until(surface.stderr, "stem vocals mute 0")
            recording = player.finish()
        running.end()
    assert gains_between(recording, started["latency_frames"], (0.0, 0.5, 1.0)) == [0.5, 0.0, 0.5]


def read_until(lines: IO[str] | None, words: str) -> None:
    """Read to the line that ends in `words`; the end of the program is a failure."""
    assert lines is not None
    assert any(line.rstrip().endswith(words) for line in lines), f"'{words}' was never shown"


CHAINS = {
    "two effects": (
        """
        [[chain.vocals]]
        plugin = "Gain"
        gain_db = 3
        [[chain.vocals]]
        plugin = "Compressor"
        threshold_db = -24
        ratio = 4
        """,
        [Gain(3), Compressor(threshold_db=-24, ratio=4)],
        0,
    ),
    "with look-ahead": (
        """
        [[chain.vocals]]
        plugin = "BrickwallLimiter"
        ceiling_db = -12
        """,
        [BrickwallLimiter(ceiling_db=-12)],
        220,
    ),
}


@pytest.mark.parametrize("case", [pytest.param("two effects", marks=pytest.mark.slow), "with look-ahead"])
def test_a_chain_is_heard_as_it_is_offline_at_the_latency_that_is_declared(case: str, tmp_path: Path) -> None:
    toml, effects, held_frames = CHAINS[case]
    played = music(RATE_HZ, 3.0)
    with jack_server(RATE_HZ, BLOCK) as server, live(server, *EXACT, *chain_file(tmp_path, toml)) as running:
        started = running.wait_for("live")
        recording = play_and_record(server, played, tmp_path)
        end = running.end()
    latency = started["latency_frames"]
    expected = Pedalboard(effects)(np.float32(HALF) * played, RATE_HZ)
    differ = np.any(recording.heard[:, latency:] != expected[:, :-latency], axis=0).sum()
    assert {"differ": differ, "late_hops": end["late_hops"]} == {"differ": 0, "late_hops": 0}
    lines = {item["name"]: item["frames"] for item in started["items"]}
    assert lines["plugins"] == held_frames and sum(lines.values()) == latency


def chain_file(folder: Path, toml: str) -> tuple[str, str]:
    path = folder / "chain.toml"
    path.write_text(toml)
    return "--chain", str(path)


INVERTED = """
[[chain.vocals]]
plugin = "Invert"
"""


@pytest.mark.parametrize(
    ("options", "usual", "meanwhile"),
    [
        (("--preset", "acapella", "--fallback", "silence"), -HALF, 0.0),
        # at unity: the input less its half, less its half again
        pytest.param(("--fallback", "dry"), 0.0, 1.0, marks=pytest.mark.slow),
    ],
)
def test_a_killed_plugin_process_fades_to_the_fallback_and_comes_back(
    options: tuple[str, ...], usual: float, meanwhile: float, tmp_path: Path
) -> None:
    played = soft_ended_tone(RATE_HZ, 7.0)
    options = (*options, "--allowance-ms", "50", *chain_file(tmp_path, INVERTED))
    with jack_server(RATE_HZ, BLOCK) as server, live(server, *options) as running:
        started = running.wait_for("live")
        with start_player(server, played, tmp_path) as player:
            time.sleep(2.0)
            os.kill(running.pid_of("plugin"), signal.SIGKILL)
            running.wait_for("restarted", RECOVERY_S)
            recording = player.finish()
        running.end()
    heard = gains_between(recording, started["latency_frames"], (usual, meanwhile), tolerance=0.0)
    assert heard == [usual, meanwhile, usual]
    assert largest_step(recording.heard) <= largest_step(played) + STEP_TOLERANCE
