"""The process that runs effect chains: raw stems in, wet stems out.

Run as `python -m host.plugin_process JSON` with `{"chains": {stem: [effect tables]}}`, the chains of exactly
those stems that the session says are chained. Stdin's first line names the session, its end ends the process.
Prints the events `ready` (held_frames by stem), `failed` (stem and reason; once each) and `error` (reason).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence

from host.child import Message, emit, raise_priority, read_messages, run_child
from host.plugins import Chain, ChainError, Chains
from streaming.health import PLUGINS
from streaming.session import Session
from streaming.worker import HopWorker, compile_loop, run


def build_stages(session: Session, chains: Chains) -> list[Chain]:
    """A warmed-up chain for every chained stem of the session, in the order of `chains`."""
    spec = session.spec
    expected = {stem for stem, chained in zip(spec.stem_names, spec.chained, strict=True) if chained}
    if set(chains) != expected or not chains:
        raise ChainError(f"chains are for {sorted(chains)}, the session expects {sorted(expected)}")
    stages = [
        Chain(stem, tables, spec.sample_rate_hz, spec.hop_frames, spec.channels)
        for stem, tables in chains.items()
    ]
    for stage in stages:
        stage.warm_up()
    return stages


def build_workers(session: Session, stages: Sequence[Chain]) -> list[HopWorker]:
    """One worker from the raw to the wet timeline of each stage's stem."""
    spec = session.spec
    return [
        HopWorker(
            session.raw[stem], [session.wet[stem]], stage, session.health, PLUGINS, spec.hop_phase_frames
        )
        for stage in stages
        for stem in [spec.stem_names.index(stage.stem_names[0])]
    ]


def failure_reporter(stages: Sequence[Chain]) -> Callable[[], None]:
    """A callable that emits each failure of a chain the first time it is seen."""
    said = {""}

    def report() -> None:
        for stage in stages:
            if stage.failure not in said:
                said.add(stage.failure)
                emit("failed", stem=stage.stem_names[0], reason=stage.failure)

    return report


def play(session: Session, options: Message) -> None:
    """Run the chains until stdin ends."""
    left = threading.Event()
    read_messages(lambda message: None, left.set, sys.stdin)
    stages = build_stages(session, options["chains"])
    compile_loop()
    raise_priority()
    workers = build_workers(session, stages)
    emit("ready", held_frames={stage.stem_names[0]: stage.held_frames for stage in stages})
    run(workers, session.wake_plugins, left.is_set, failure_reporter(stages))


if __name__ == "__main__":
    sys.exit(run_child(play, sys.argv[1:]))
