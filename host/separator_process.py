"""The process in which the model works: the dry timeline in, the raw stem timelines out.

Run as `python -m host.separator_process JSON` with `host.models.separator_options`; stdin's first line names
the session, its end ends the process. Prints the events `compromise` (reason), `ready` and `error` (reason).
"""

from __future__ import annotations

import json
import sys
import threading
import warnings

from host.child import Message, emit, raise_priority, read_messages, run_child
from host.hop_times import hop_step, timed
from host.models import SIGNATURE, Execution, open_separator
from model.compromise import Compromise
from streaming.separator import Separator
from streaming.session import Session
from streaming.worker import PATIENCE_HOPS, HopWorker, compile_loop, run

CATCH_UP_HOPS = 8
SLOWEST_S = 1.0
"""How long a hop may take, if it is itself no longer: half of what counts as hung."""


def patience_frames(session: Session) -> int:
    """How far to fall behind before giving hops up: what the latency buffers, and a few hops to catch up in.

    A late hop is not heard. To work through a long row of them would only make the next ones late too, while
    joining at the newest hop costs two fades.
    """
    plan, spec = session.plan.latest(), session.spec
    if plan is None or plan["epoch"][0] == 0:
        return PATIENCE_HOPS * spec.hop_frames
    buffered = int(plan["latency_frames"][0]) - spec.stem_latency_frames
    return buffered + CATCH_UP_HOPS * spec.hop_frames


def separate(session: Session, options: Message) -> None:
    """Warm the separator up, say so, and work until stdin ends."""
    left = threading.Event()
    read_messages(lambda message: None, left.set, sys.stdin)
    execution = Execution(**options["execution"])
    stage = open_separator(options["model"], session.spec.sample_rate_hz, execution)
    warm_up(stage)
    compile_loop()
    raise_priority()
    worker = HopWorker(
        session.dry, session.raw, stage, session.health, patience_frames=lambda: patience_frames(session)
    )
    emit("ready")
    run([worker], session.wake_separator, left.is_set, session.wake_plugins.post)
    stage.close()


def warm_up(stage: Separator) -> None:
    """Make the stage ready and say what it did without. Errors: RuntimeError where it is far too slow."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stage.warm_up()
    for warning in said:
        if issubclass(warning.category, Compromise):
            emit("compromise", reason=str(warning.message))
    took_s, hop_s = float(timed(hop_step(stage), 1)[0]), stage.hop_frames / stage.sample_rate_hz
    if took_s > max(hop_s, SLOWEST_S):
        raise RuntimeError(
            f"A hop of {hop_s * 1e3:.0f} ms takes {took_s:.1f} s to compute here: take a GPU or a smaller"
            " model, or `stembridge separate` for files."
        )


def import_model_room(arguments: list[str]) -> None:
    """Import what the model will need: when launched early, while the parent is still importing itself."""
    if json.loads(arguments[0])["model"] != SIGNATURE:
        import torch

        import model.separators  # noqa: F401

        torch.set_num_threads(1)  # to start a pool of threads takes longer than to load a model of this size


if __name__ == "__main__":
    import_model_room(sys.argv[1:])
    sys.exit(run_child(separate, sys.argv[1:]))
