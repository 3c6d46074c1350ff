"""OSC programs and effect chains change what an independent recorder hears of `stembridge live`.

The signature separator's first stems are half the input each, so every setting of the desk has a gain of its
own between what was played and what was heard.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pedalboard
import pytest

from tests.host.jack import Audio, Recording, jack_server, play_and_record, start_player, why_no_server
from tests.host.live_session import EXACT, HALF, RECOVERY_S, STEP_TOLERANCE, TAIL_S, live, music
from tests.host.osc_programs import needs_liblo, needs_pure_data, oscsend, subscribed_oscdump

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(why_no_server() is not None, reason=str(why_no_server())),
]

RATE_HZ, BLOCK = 44100, 128
PIECE = 441
STAGE_S = 0.4  # how long each setting of the desk is heard
HALF_DB = "-6.0206"  # another half; liblo sends it as float32


def gains_heard(
    recording: Recording, latency: int, gains: tuple[float, ...], tolerance: float = 1e-6
) -> list[float]:
    """Which of `gains` lies between played and heard, in order; pieces on the way between two are left out."""
    played, heard = recording.played[:, :-latency], recording.heard[:, latency:]
    found: list[float] = []
    for at in range(0, played.shape[1] - round(TAIL_S * RATE_HZ), PIECE):
        here = slice(at, at + PIECE)
        fitting = [g for g in gains if np.abs(heard[:, here] - g * played[:, here]).max() <= tolerance]
        found += [g for g in fitting if found[-1:] != [g]]
    return found


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
    assert gains_heard(recording, started["latency_frames"], tuple(sorted(set(steps)))) == steps
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
