"""The one process that owns the registry: OSC and keys in, the callback's snapshot and feedback out.

Run as `python -m host.control_process JSON` with `{"host": "127.0.0.1", "port": 9100}`; stdin's first line
names the session. Takes `{"set": path, "value": v}` and `{"preset": name}` as further lines; the end of stdin
ends it.
Prints the events `ready` (port, values), `changed` (path, value), `refused` (reason) and `error` (reason).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Hashable

import numpy as np

from host.child import Message, emit, read_messages, run_child
from host.osc import DEFAULT_HOST, DEFAULT_PORT, OscServer, serve
from host.registry import ControlError, Registry, Value
from streaming.health import CONTROL, HOP_RING, HOPS, LATE_HOPS, SEPARATOR, XRUNS
from streaming.session import Session

STATUS_S = 0.2
EVENTS_S = 0.05
LOAD_HOPS = 100
PARENT = "parent"
"""The writer's identity of what comes over stdin."""

Emit = Callable[..., None]


def newest_load(session: Session) -> float:
    """Mean compute time of the newest hops / hop duration; 0 before the first."""
    hops = int(session.health.counters[SEPARATOR, HOPS])
    if hops == 0:
        return 0.0
    newest = np.arange(max(0, hops - LOAD_HOPS), hops) % HOP_RING
    seconds = float(session.health.hop_seconds[newest].mean())
    return seconds * session.spec.sample_rate_hz / session.spec.hop_frames


def read_status(session: Session) -> dict[str, float]:
    """The values of `/status/...` now."""
    plan = session.plan.latest()
    declared_frames = 0 if plan is None else int(plan["declared_frames"][0])
    return {
        "latency_ms": round(1000 * declared_frames / session.spec.sample_rate_hz, 3),
        "load": round(newest_load(session), 3),
        "late_hops": float(session.health.count(LATE_HOPS)),
        "xruns": float(session.health.count(XRUNS)),
    }


class ControlProcess:
    """Joins session, registry and OSC server.

    A change is published when the packet that made it is done, so a bundle or a preset is one record. Event
    lines are gathered for 50 ms, so that a flood of writes can not fill the pipe to the parent.

    Threads: the event loop's.
    """

    def __init__(self, session: Session, emit_event: Emit = emit) -> None:
        self.registry = Registry(session.spec.stem_names)
        self.left = asyncio.Event()
        self._session = session
        self._emit = emit_event
        self._unpublished = False
        self._changes: dict[str, Value] = {}
        self._refusals: dict[str, None] = {}
        self._restore()
        self.registry.listen(self._changed)
        self.server = OscServer(self.registry, self._refused)

    def _restore(self) -> None:
        """Take over what the last control process (or the audio process) published."""
        record = self._session.controls.latest()
        if record is None:
            self._session.controls.publish(self.registry.record())
        else:
            self.registry.from_record(record)

    async def run(self, host: str, port: int) -> None:
        """Serve until `left` is set; OscError if the port can not be had."""
        self._report_status()
        bound = await serve(self.server, host, port)
        self._emit("ready", port=bound, values=self.registry.values)
        tasks = [
            asyncio.create_task(self.left.wait()),
            asyncio.create_task(every(EVENTS_S, self._flush_events)),
            asyncio.create_task(every(STATUS_S, self._report_status)),
        ]
        done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self.server.close()
        for task in running:
            task.cancel()
        for task in done:
            task.result()  # a loop that failed must not fail unseen
        self._flush_events()

    def handle(self, message: Message) -> None:
        """Act on one message of the parent."""
        try:
            if "set" in message:
                self.registry.set(str(message["set"]), message.get("value"), PARENT)
            elif "preset" in message:
                self.registry.set("/preset/load", message["preset"], PARENT)
            else:
                self._refused(f"there is no message {json.dumps(message):.80}")
        except ControlError as error:
            self._refused(str(error))

    def _changed(self, path: str, value: Value, writer: Hashable) -> None:
        if self.registry.controls[path].kind == "status":
            return
        self._changes[path] = value
        if not self._unpublished:
            self._unpublished = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        if self._unpublished:
            self._unpublished = False
            self._session.controls.publish(self.registry.record())

    def _refused(self, reason: str) -> None:
        if len(self._refusals) < 4:
            self._refusals[reason] = None

    def _flush_events(self) -> None:
        self._session.health.beat(CONTROL)
        self._publish()  # what is told has happened, also if this process dies now
        for path, value in self._changes.items():
            self._emit("changed", path=path, value=value)
        for reason in self._refusals:
            self._emit("refused", reason=reason)
        self._changes.clear()
        self._refusals.clear()

    def _report_status(self) -> None:
        for key, value in read_status(self._session).items():
            self.registry.report(key, value)


async def every(period_s: float, action: Callable[[], None]) -> None:
    """Run `action` now and again after every `period_s`, until cancelled."""
    while True:
        action()
        await asyncio.sleep(period_s)


def control(session: Session, options: Message) -> None:
    """Serve controls until stdin ends."""
    asyncio.run(_control(session, options))


async def _control(session: Session, options: Message) -> None:
    process = ControlProcess(session)
    loop = asyncio.get_running_loop()
    read_messages(
        lambda message: _from_thread(loop, process.handle, message),
        lambda: _from_thread(loop, process.left.set),
        sys.stdin,
    )
    await process.run(options.get("host", DEFAULT_HOST), int(options.get("port", DEFAULT_PORT)))


def _from_thread(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *arguments)


if __name__ == "__main__":
    sys.exit(run_child(control, sys.argv[1:]))
