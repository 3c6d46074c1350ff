"""The sound card of a running engine: opened, watched, reopened when it stands still."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from enum import Enum
from typing import Any

from host import portaudio
from host.portaudio import CompiledCallback, DeviceError, DeviceInfo, PythonCallback, StreamSettings

STILL_S = 1.0  # a block counter that stands still for this long means that the stream is dead
RETRY_S = 1.0


class DeviceState(Enum):
    """The life of a device. STALLED: no block came for a second. LOST: there is no stream, one is sought."""

    CLOSED = "closed"
    OPEN = "open"
    RUNNING = "running"
    STALLED = "stalled"
    LOST = "lost"


class AudioDevice:
    """A duplex stream around an engine, and its watchdog.

    Parameters
    ----------
    settings : which devices, channels, rate and block
    callback : what the stream calls, from `portaudio.engine_callback`
    blocks : reads the engine's count of blocks (`session.health.count(BLOCKS)`)
    on_event : told ("stalled" | "resumed" | "reopened" | "lost", one line) by `check`
    clock : seconds, monotonic

    Threads: one thread opens, checks and closes.
    """

    def __init__(
        self,
        settings: StreamSettings,
        callback: CompiledCallback | PythonCallback,
        blocks: Callable[[], int],
        on_event: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.state = DeviceState.CLOSED
        self._callback, self._blocks, self._on_event, self._clock = callback, blocks, on_event, clock
        self._stream: Any = None
        self._seen_blocks = 0
        self._seen_at = 0.0
        self._said_lost = False

    @property
    def devices(self) -> tuple[DeviceInfo, DeviceInfo]:
        """The input and the output device of the open stream."""
        return self._source, self._target

    def open(self) -> None:
        """Find the devices and open the stream. Errors: DeviceError."""
        known = portaudio.list_devices()
        self._source = portaudio.find_device(self.settings.input_device, "input", known)
        self._target = portaudio.find_device(self.settings.output_device, "output", known)
        self._stream = portaudio.open_stream(self.settings, self._callback, self._source, self._target)
        self.state = DeviceState.OPEN

    def start(self) -> None:
        """Let audio flow. Errors: DeviceError."""
        try:
            self._stream.start()
        except portaudio.library().PortAudioError as error:
            raise portaudio.explain(error, self.settings, self._source, self._target) from None
        self._note_blocks()
        self.state = DeviceState.RUNNING

    def stop(self) -> None:
        """Stop after the pending blocks have been played."""
        if self.state is DeviceState.RUNNING:
            self._stream.stop()
            self.state = DeviceState.OPEN

    def close(self) -> None:
        """Give the devices back; harmless when closed."""
        if self._stream is not None:
            self._close_stream()
        self.state = DeviceState.CLOSED

    def check(self) -> None:
        """Look at the block counter, a few times a second; report and reopen a stream that stands still."""
        if self.state in (DeviceState.CLOSED, DeviceState.OPEN):
            return
        still_s = self._clock() - self._seen_at
        if self._stream is not None and self._blocks() != self._seen_blocks:
            self._go_on()
        elif self.state is DeviceState.RUNNING and still_s >= STILL_S:
            self.state = DeviceState.STALLED
            self._on_event("stalled", f"{self._source} has given no block for {still_s:.1f} s")
            self._retry()
        elif self.state is not DeviceState.RUNNING and still_s >= RETRY_S:
            self._retry()

    def _note_blocks(self) -> None:
        self._seen_blocks, self._seen_at = self._blocks(), self._clock()

    def _go_on(self) -> None:
        self._note_blocks()
        if self.state is DeviceState.STALLED:
            self.state = DeviceState.RUNNING
            self._on_event("resumed", str(self._source))

    def _retry(self) -> None:
        """Reopen, unless the stream hangs in a JACK server that lives: it goes on when the server does."""
        self._seen_at = self._clock()
        if not (self._hangs_in_jack and self._stream.active):
            self._reopen()

    @property
    def _hangs_in_jack(self) -> bool:
        return self.state is DeviceState.STALLED and self._source.api == portaudio.JACK

    def _reopen(self) -> None:
        """Close, look for the same devices again by name (numbers may have changed), open and start."""
        self.settings = replace(
            self.settings, input_device=self._source.name, output_device=self._target.name
        )
        look_again = portaudio.renew if self._hangs_in_jack else portaudio.rescan
        self.close()
        try:
            look_again()
            self.open()
            self.start()
        except DeviceError as error:
            self._lose(str(error))
        else:
            self._said_lost = False
            self._on_event("reopened", str(self._source))

    def _lose(self, reason: str) -> None:
        """Say once that there is no stream now; `check` goes on trying."""
        self.close()
        self.state = DeviceState.LOST
        if not self._said_lost:
            self._on_event("lost", reason)
        self._said_lost = True

    def _close_stream(self) -> None:
        if self._hangs_in_jack:
            portaudio.leave()
        else:
            self._stream.abort()
            self._stream.close()
        self._stream = None


@contextlib.contextmanager
def running(device: AudioDevice) -> Iterator[AudioDevice]:
    """Open and start `device`, stop and close it at the end, whatever happens."""
    try:
        device.open()
        device.start()
        yield device
    finally:
        device.stop()
        device.close()


def devices_as_rows(devices: Iterable[DeviceInfo]) -> list[dict[str, Any]]:
    """Devices as JSON-able rows, for `stembridge devices --json`."""
    return [asdict(device) for device in devices]


def devices_as_text(devices: Iterable[DeviceInfo]) -> str:
    """Devices as lines, for `stembridge devices`; `>` and `<` mark each system's default input and output."""
    lines = [
        f"{'>' if d.default_input else ' '}{'<' if d.default_output else ' '} {d.index:3}  {d.name}"
        f"  [{d.api}]  {d.inputs} in, {d.outputs} out, {d.rate_hz} Hz"
        for d in devices
    ]
    return "\n".join(lines) or "No audio devices. See `stembridge doctor`."
