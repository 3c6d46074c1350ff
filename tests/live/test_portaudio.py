"""Finding devices and opening a stream: through a fake library, and on `jackd` where it is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from host import portaudio
from host.portaudio import DeviceError, DeviceInfo, StreamSettings, explain, find_device
from tests.live.jack import (
    ROOT,
    Server,
    frames_that_differ,
    jack_server,
    needs_server,
    play_and_record,
    shift_of,
    start_pass_through,
)

CARD = DeviceInfo(0, "USB Audio: #1", "ALSA", 2, 2, 48000, True, True)
MICROPHONE = DeviceInfo(1, "USB Microphone", "ALSA", 1, 0, 48000, False, False)
SYSTEM = DeviceInfo(2, "system", "JACK Audio Connection Kit", 2, 2, 44100, True, True)
PLAYER = DeviceInfo(3, "player", "JACK Audio Connection Kit", 2, 2, 44100, False, False)
DEVICES = [CARD, MICROPHONE, SYSTEM, PLAYER]


class PortAudioError(Exception):
    pass


class Refusing:
    """A library that takes 44100 Hz and refuses the rest, like one that failed with `code`."""

    PortAudioError = PortAudioError
    default = SimpleNamespace(device=(2, 0))

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def _StreamBase(self, **_: Any) -> None:
        raise PortAudioError("Error opening", self.code)

    def check_input_settings(self, *_: Any, samplerate: int) -> None:
        if samplerate != 44100:
            raise PortAudioError("no", portaudio.INVALID_RATE)

    check_output_settings = check_input_settings


@pytest.mark.parametrize(
    ("wanted", "kind", "expected"),
    [
        (1, "input", MICROPHONE),
        ("1", "input", MICROPHONE),
        ("system", "input", SYSTEM),
        ("jack", "input", SYSTEM),
        ("microphone", "input", MICROPHONE),
        ("USB", "output", CARD),
        ("USB", "input", CARD),
        ("player", "output", PLAYER),
    ],
)
def test_a_device_is_found_by_number_name_part_or_system(
    wanted: int | str, kind: Any, expected: DeviceInfo
) -> None:
    assert find_device(wanted, kind, DEVICES) == expected


def test_none_means_the_default_of_its_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portaudio, "library", Refusing)
    assert find_device(None, "input", DEVICES) == SYSTEM
    assert find_device(None, "output", DEVICES) == CARD


@pytest.mark.parametrize(
    ("wanted", "kind", "says"),
    [
        ("theremin", "input", "No input device fits 'theremin'"),
        (9, "output", "No output device fits '9'"),
        (1, "output", "No output device fits '1'"),
        ("er", "output", "3 'player'"),
    ],
)
def test_an_unknown_device_lists_the_known_ones(wanted: int | str, kind: Any, says: str) -> None:
    alike = [CARD, MICROPHONE, PLAYER, DeviceInfo(4, "recorder", "ALSA", 2, 2, 44100, False, False)]
    with pytest.raises(DeviceError, match=says) as caught:
        find_device(wanted, kind, alike)
    assert "Known: " in str(caught.value) and "\n" not in str(caught.value)


def test_no_device_at_all_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match="No audio input device was found: connect one"):
        find_device(None, "input", [])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (portaudio.INVALID_RATE, "48000 Hz is refused by .* it takes: 44100"),
        (portaudio.DEVICE_UNAVAILABLE, "is busy or gone"),
        (portaudio.INVALID_DEVICE, "is busy or gone"),
        (portaudio.INVALID_CHANNELS, "does not take 2 inputs and 2 outputs"),
        (-9999, r"cannot be opened \(.*see `stembridge devices`"),
    ],
)
def test_every_refusal_is_one_line_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    library = Refusing(code)
    monkeypatch.setattr(portaudio, "library", lambda: library)
    with pytest.raises(DeviceError, match=says) as caught:
        portaudio.open_stream(StreamSettings(rate_hz=48000), lambda *_: None, SYSTEM, CARD)
    assert "\n" not in str(caught.value)


def test_an_error_without_a_code_is_explained_too() -> None:
    assert "cannot be opened (odd)" in str(explain(PortAudioError("odd"), StreamSettings(), CARD, CARD))


def test_a_channel_that_is_not_there_is_refused() -> None:
    settings = StreamSettings(input_channels=(0, 3))
    with pytest.raises(DeviceError, match="has 2 input channels, channel 4 was asked for"):
        portaudio.open_stream(settings, lambda *_: None, CARD, CARD)


def test_without_the_library_it_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['sounddevice'] = None\n"
        "from host.portaudio import DeviceError, list_devices\n"
        "try: list_devices()\n"
        "except DeviceError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "apt-get install libportaudio2" in said and said.count("\n") == 1


@pytest.mark.device
@needs_server
@pytest.mark.parametrize(
    ("rate_hz", "block", "stream_block", "expected"),
    [
        (44100, 64, 0, 0),
        (48000, 480, 0, 0),
        (44100, 128, 128, 128),
    ],
)
def test_the_compiled_callback_passes_audio_exactly(
    tmp_path: Path, rate_hz: int, block: int, stream_block: int, expected: int
) -> None:
    signal = noise(rate_hz)
    with jack_server(rate_hz, block) as server, start_pass_through(server, stream_block, "compiled"):
        recording = play_and_record(server, signal, tmp_path)
    assert np.array_equal(recording.played, signal)
    assert shift_of(recording) == expected
    assert frames_that_differ(recording, expected) == 0


@pytest.mark.device
@needs_server
def test_the_python_callback_passes_audio_exactly(tmp_path: Path) -> None:
    with jack_server(44100, 512) as server, start_pass_through(server, 0, "python"):
        recording = play_and_record(server, noise(44100), tmp_path)
    assert frames_that_differ(recording, 0) == 0


@pytest.mark.device
@needs_server
def test_a_server_refuses_another_rate_and_tells_its_own() -> None:
    with jack_server(48000, 128) as server:
        said = open_in_child(server, "StreamSettings(rate_hz=44100)")
    assert "44100 Hz is refused" in said and "it takes: 48000" in said


def open_in_child(server: Server, settings: str) -> str:
    code = (
        "from host.portaudio import *\n"
        f"devices, settings = list_devices(), {settings}\n"
        "try: open_stream(settings, lambda *_: None, find_device('jack', 'input', devices),"
        " find_device('jack', 'output', devices))\n"
        "except DeviceError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=server.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def noise(rate_hz: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One second of noise and a quarter of silence, [2, frames]."""
    signal = np.zeros((2, rate_hz * 5 // 4), np.float32)
    signal[:, :rate_hz] = np.random.default_rng(7).uniform(-1, 1, (2, rate_hz))
    return signal
