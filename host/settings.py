"""What a user may choose, as one validated record; the commands fill it, `app` builds from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from host.errors import UserError
from host.models import DEFAULT_MODEL, PLAIN, Execution
from host.osc import DEFAULT_HOST, DEFAULT_PORT
from host.portaudio import CallbackKind, StreamSettings

Fallback = Literal["dry", "silence"]

DEFAULT_ALLOWANCE_MS = 15.0
UNKNOWN_BLOCK_FRAMES = 1024  # what a block is taken to be at most where no device has told


@dataclass(frozen=True)
class EngineSettings:
    """How sound is separated and mixed, whatever it comes from.

    `allowance_ms` is the time that the computing of a hop and the waking of processes may take.
    `reserve_frames` pads the declared latency up to that many frames; 0 pads nothing.
    """

    model: str = DEFAULT_MODEL
    preset: str | None = None
    fallback: Fallback = "dry"
    allowance_ms: float = DEFAULT_ALLOWANCE_MS
    chains: Path | None = None
    reserve_frames: int = 0
    execution: Execution = PLAIN

    def __post_init__(self) -> None:
        if not 0.0 <= self.allowance_ms <= 1000.0:
            raise UserError(f"An allowance of {self.allowance_ms} ms is out of range: choose 0 to 1000.")


@dataclass(frozen=True)
class LiveSettings:
    """A live run: the engine, the sound card, the control surface."""

    engine: EngineSettings
    stream: StreamSettings
    callback: CallbackKind = "compiled"
    osc_host: str = DEFAULT_HOST
    osc_port: int = DEFAULT_PORT
