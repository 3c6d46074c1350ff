"""The engine cranked by hand: recorded stems mixed by the same compiled law, without clock and latency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from host.recorder import Recording
from streaming.block import PIECE_FRAMES
from streaming.callback import Engine
from streaming.separator import Audio
from streaming.session import Session, SessionSpec
from streaming.snapshot import PLAN
from streaming.timeline import Timeline


@contextmanager
def scratch_session(spec: SessionSpec) -> Iterator[Session]:
    """A session that nobody else joins, gone at the end."""
    session = Session.create(spec)
    try:
        yield session
    finally:
        session.close()
        session.unlink()


def render_mix(
    spec: SessionSpec,
    controls: NDArray[np.void],
    dry: Audio,
    raw: Recording,
    wet: Recording,
    block_frames: int,
) -> Audio:
    """What the engine plays of `dry` [channels, frames] with `controls`, every present stem being in time.

    A block of which a stem lacks a frame is a late one.

    Threads: any.
    """
    mixed = np.empty_like(dry)
    capacity_frames = 4 * max(block_frames, spec.hop_frames, PIECE_FRAMES)
    with scratch_session(replace(spec, capacity_frames=capacity_frames)) as session:
        session.controls.publish(controls)
        session.plan.publish(_plan_without_latency())
        engine = Engine(session)
        for start in range(0, dry.shape[1], block_frames):
            block = slice(start, min(start + block_frames, dry.shape[1]))
            _write(session.raw, raw, block)
            _write(session.wet, wet, block)
            engine.process(dry[:, block], mixed[:, block])
    return mixed


def _plan_without_latency() -> NDArray[np.void]:
    plan = np.zeros(1, PLAN)
    plan["epoch"] = 1
    return plan


def _write(timelines: list[Timeline], recording: Recording, block: slice) -> None:
    for timeline, audio, present in zip(timelines, recording.audio, recording.present, strict=True):
        if present[block].all():
            timeline.write(block.start, audio[:, block])


def compile_engine() -> None:
    """Compile, or load from the cache, what a run calls: the first block of a stream cannot wait for it.

    Threads: any.
    """
    audio = np.zeros((2, 64), np.float32)
    with scratch_session(SessionSpec(44100, 2, ("vocals",), 441, 882, (False,), PIECE_FRAMES)) as session:
        session.raw[0].write(0, audio)
        Engine(session).process(audio, audio)
        session.raw[0].read(0, audio)
