"""Builds a running engine from settings, and takes it down again in order.

The audio process owns all shared memory, the engine and the supervisor. Start: memory, children, device, then
the first epoch. End: fade, close the device, send the children away, drop the views, close, unlink.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.audio_device import AudioDevice, DeviceState
from host.child import Message
from host.models import SeparatorFacts, describe, separator_options
from host.plugins import Chain, Chains, load_chains
from host.portaudio import DeviceError, engine_callback
from host.registry import Registry
from host.settings import EngineSettings, LiveSettings
from host.supervisor import START_S, Child, ChildSpec, Lifecycle, Supervisor
from streaming.callback import Engine
from streaming.framing import ms_to_frames
from streaming.health import BLOCK_MAX, BLOCK_MIN, BLOCKS, CONTROL, EPOCH, PLUGINS, SEPARATOR, SILENT
from streaming.latency import LatencyBudget, LatencyItem, buffering_frames, buffering_frames_varying
from streaming.limiter import LOOKAHEAD_FRAMES
from streaming.session import Session, SessionSpec
from streaming.snapshot import PLAN

CHANNELS = 2
CAPACITY_S = 4.0
FADE_WAIT_S = 0.5
START_TIMEOUT_S = 2 * START_S
PROBE_BLOCKS = 20

OnEvent = Callable[..., None]


class StartError(RuntimeError):
    """The engine could not be started, in one line."""


@dataclass(frozen=True)
class BlockRange:
    """The device blocks that were seen or are declared, in frames."""

    least: int
    most: int

    @property
    def is_constant(self) -> bool:
        return self.least == self.most


def latency_budget(
    settings: EngineSettings, facts: SeparatorFacts, rate_hz: int, blocks: BlockRange, held_frames: int = 0
) -> LatencyBudget:
    """The itemised latency of an engine; errors: LatencyError where the reserve is too short."""
    allowance = ms_to_frames(settings.allowance_ms, rate_hz)
    if blocks.is_constant:
        buffering = buffering_frames(blocks.most, facts.hop_frames, allowance)
        why = f"{settings.allowance_ms:g} ms to compute in, blocks of {blocks.most}"
    else:
        buffering = buffering_frames_varying(blocks.most, facts.hop_frames, allowance)
        why = f"{settings.allowance_ms:g} ms to compute in, blocks up to {blocks.most}"
    items = (
        LatencyItem("model", facts.latency_frames, f"{facts.label}, hop {facts.hop_frames}"),
        LatencyItem("buffering", buffering, why),
        LatencyItem("plugins", held_frames, "the longest chain"),
        LatencyItem("limiter", LOOKAHEAD_FRAMES, "look-ahead"),
    )
    budget = LatencyBudget(rate_hz, items)
    return budget.padded_to(settings.reserve_frames) if settings.reserve_frames else budget


def held_frames(chains: Chains, facts: SeparatorFacts, rate_hz: int) -> int:
    """Frames that the longest of the chains holds back."""
    built = [Chain(stem, tables, rate_hz, facts.hop_frames, CHANNELS) for stem, tables in chains.items()]
    for chain in built:
        chain.warm_up()
    return max((chain.held_frames for chain in built), default=0)


def wait_until(condition: Callable[[], bool], otherwise: str, timeout_s: float = 10.0) -> None:
    """Wait for `condition`; StartError(`otherwise`) if it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StartError(otherwise)
        time.sleep(0.005)


class Bridge:
    """Session, children and engine of one run, without a device: `demo` and `live` put theirs around it.

    Parameters
    ----------
    settings : what to run
    rate_hz : the device's rate
    on_event : told (event, **fields) for whatever a user or a log should know
    control : where the control process serves OSC, (host, port); None runs without one

    Threads: one; events also come from the supervisor's threads.
    """

    def __init__(
        self,
        settings: EngineSettings,
        rate_hz: int,
        on_event: OnEvent,
        control: tuple[str, int] | None = None,
    ) -> None:
        self.settings, self.rate_hz, self._on_event = settings, rate_hz, on_event
        self.facts = describe(settings.model, rate_hz, settings.execution)
        self.chains: Chains = load_chains(settings.chains, self.facts.stem_names) if settings.chains else {}
        self.held_frames = held_frames(self.chains, self.facts, rate_hz)
        controls = self._controls()
        self.session = Session.create(self._spec())
        self.session.controls.publish(controls)
        self.children = {child.spec.name: child for child in self._make_children(control)}
        self.supervisor = Supervisor(list(self.children.values()))
        self._seen_running: set[str] = set()
        self._epoch = 0

    def _spec(self) -> SessionSpec:
        facts = self.facts
        hops = -(-int(CAPACITY_S * self.rate_hz) // facts.hop_frames)
        return SessionSpec(
            sample_rate_hz=self.rate_hz,
            channels=CHANNELS,
            stem_names=facts.stem_names,
            hop_frames=facts.hop_frames,
            stem_latency_frames=facts.latency_frames,
            chained=tuple(name in self.chains for name in facts.stem_names),
            capacity_frames=hops * facts.hop_frames + facts.window_frames,
        )

    def _controls(self) -> NDArray[np.void]:
        """The faders that the user asked for. Errors: ControlError, PresetError."""
        registry = Registry(self.facts.stem_names)
        registry.set("/fallback", self.settings.fallback)
        if self.settings.preset:
            registry.set("/preset/load", self.settings.preset)
        self.values: dict[str, Any] = dict(registry.values)
        return registry.record()

    def _make_children(self, control: tuple[str, int] | None) -> list[Child]:
        model = separator_options(self.settings.model, self.settings.execution)
        children = [self._child("separator", SEPARATOR, model)]
        if self.chains:
            children.append(self._child("plugin", PLUGINS, {"chains": self.chains}))
        if control is not None:
            children.append(self._child("control", CONTROL, {"host": control[0], "port": control[1]}))
        return children

    def _child(self, name: str, role: int, options: dict[str, Any]) -> Child:
        health = self.session.health
        spec = ChildSpec(
            name,
            f"host.{name}_process",
            (json.dumps(options),),
            {"session": self.session.name},
            lambda: health.seconds_since_beat(role),
            self.facts.hop_frames / self.rate_hz,
        )
        return Child(spec, self._child_state, self._child_message)

    def _child_state(self, name: str, state: Lifecycle, detail: str) -> None:
        pid = self.children[name].pid
        self._on_event("child", name=name, state=state.value, pid=pid, detail=detail)
        if state is Lifecycle.RUNNING and name in self._seen_running:
            self._on_event("restarted", name=name, pid=pid)
        elif state is Lifecycle.RUNNING:
            self._seen_running.add(name)

    def _child_message(self, name: str, message: Message) -> None:
        if message["event"] == "changed":
            self.values[message["path"]] = message["value"]
        elif message["event"] == "ready" and "values" in message:
            self.values.update(message["values"])
        elif message["event"] in ("refused", "failed", "compromise"):
            self._on_event(message.pop("event"), name=name, **message)

    def start_children(self) -> None:
        """Start them all and wait until they are ready. Errors: StartError at the first that ends."""
        self.supervisor.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        for child in self.children.values():
            while not child.wait_ready(0.2):
                if child.failures:
                    raise StartError(child.reason)
                if time.monotonic() > deadline:
                    raise StartError(f"The {child.spec.name} process takes too long to start: try again.")

    def make_engine(
        self, input_map: tuple[int, ...] = (0, 1), output_map: tuple[int, ...] = (0, 1)
    ) -> Engine:
        """The compiled callback's arrays; it takes over what is published by now."""
        return Engine(self.session, input_map, output_map, max(input_map) + 1, max(output_map) + 1)

    def budget(self, blocks: BlockRange, extra: tuple[LatencyItem, ...] = ()) -> LatencyBudget:
        """The latency of this engine with the device's blocks."""
        budget = latency_budget(self.settings, self.facts, self.rate_hz, blocks, self.held_frames)
        return LatencyBudget(self.rate_hz, (*budget.items, *extra))

    def open_epoch(self, budget: LatencyBudget, outside_frames: int = 0) -> None:
        """Declare a latency: the callback fades through silence to it.

        `outside_frames` of it arise outside the engine, in the device. Errors: StartError where the
        timelines do not reach back so far.
        """
        if budget.total_frames > self.session.spec.capacity_frames // 2:
            raise StartError(
                f"A latency of {budget.total_ms:.0f} ms is more than the engine keeps: reserve or allow less."
            )
        self._epoch += 1
        self._publish_plan(self._epoch, budget.total_frames, outside_frames)
        self._on_event("epoch", number=self._epoch, latency_frames=budget.total_frames)

    def _publish_plan(self, epoch: int, declared_frames: int = 0, outside_frames: int = 0) -> None:
        plan = np.zeros(1, PLAN)
        plan["epoch"], plan["declared_frames"] = epoch, declared_frames
        plan["latency_frames"] = declared_frames - outside_frames
        self.session.plan.publish(plan)

    def fade_out(self) -> None:
        """Fade to silence and wait until it is there (or until no callback runs any more)."""
        self._publish_plan(0)
        health = self.session.health
        deadline = time.monotonic() + FADE_WAIT_S
        while time.monotonic() < deadline and not (health.count(SILENT) and health.count(EPOCH) == 0):
            time.sleep(0.005)
        self._on_event("faded")

    def close(self) -> None:
        """Send the children away, then drop the memory. The device must be closed and its engine dropped."""
        self.supervisor.stop()
        self.session.close()
        self.session.unlink()
        self._on_event("closed")


class LiveApp:
    """A bridge between a sound card's input and its output.

    Threads: one drives it (`start`, `check`, `stop`).
    """

    def __init__(self, settings: LiveSettings, on_event: OnEvent) -> None:
        self.settings, self._on_event = settings, on_event
        rate_hz = settings.stream.rate_hz
        self.bridge = Bridge(settings.engine, rate_hz, on_event, (settings.osc_host, settings.osc_port))
        self.device: AudioDevice | None = None
        self.budget: LatencyBudget | None = None
        self._blocks = BlockRange(0, 0)
        self._engine: Engine | None = None  # the C side holds only addresses

    def start(self) -> None:
        """Open the device, start the children, look at the blocks that come, and go live.

        Errors: DeviceError, StartError.
        """
        self._open_device()
        assert self.device is not None
        self.bridge.start_children()
        self.device.start()
        self._on_event("streaming")
        self._await_blocks()
        self._blocks = self._seen_blocks()
        self.budget = self._declared(self._blocks)
        self._await_stems(self.budget)
        self.bridge.open_epoch(self.budget, self.settings.stream.block_frames)
        self._on_event(
            "live",
            block_frames=self._blocks.most,
            separator_pid=self.bridge.children["separator"].pid,
            **self.budget.as_dict(),
        )

    def _open_device(self) -> None:
        """Open, not start: what is wrong with a device should be said before a model is loaded."""
        bridge, stream = self.bridge, self.settings.stream
        self._engine = bridge.make_engine(stream.input_channels, stream.output_channels)
        self.device = AudioDevice(
            stream,
            engine_callback(self._engine, self.settings.callback),
            lambda: bridge.session.health.count(BLOCKS),
            lambda event, detail: self._on_event("device", state=event, detail=detail),
        )
        self.device.open()

    def _declared(self, blocks: BlockRange) -> LatencyBudget:
        return self.bridge.budget(blocks, self._adapter())

    def _adapter(self) -> tuple[LatencyItem, ...]:
        """What PortAudio adds where it is asked for a block of its own: one such block (measured on JACK)."""
        asked = self.settings.stream.block_frames
        return (LatencyItem("device", asked, f"PortAudio's adapter to blocks of {asked}"),) if asked else ()

    def _seen_blocks(self) -> BlockRange:
        health = self.bridge.session.health
        return BlockRange(health.count(BLOCK_MIN), health.count(BLOCK_MAX))

    def _await_blocks(self) -> None:
        """Let some silent blocks pass, to see how long they are."""
        health = self.bridge.session.health
        wait_until(
            lambda: health.count(BLOCKS) >= PROBE_BLOCKS,
            "The device was started but gave no audio: see `stembridge doctor`.",
        )

    def _await_stems(self, budget: LatencyBudget) -> None:
        """Go live only when stems reach as far back as the first block of the epoch will read."""
        session = self.bridge.session
        wait_until(
            lambda: all(
                stem.start <= session.dry.end - budget.total_frames < stem.end for stem in session.played
            ),
            "The separator is ready but gives no stems: see `stembridge doctor`.",
        )

    def check(self) -> None:
        """Look after the device and its blocks; call it a few times a second.

        Blocks of another size than was declared change what can be promised: a new epoch says so.
        """
        if self.device is None:
            return
        self.device.check()
        if (blocks := self._seen_blocks()) != self._blocks:
            self._blocks = blocks
            self.budget = self._declared(blocks)
            self.bridge.open_epoch(self.budget, self.settings.stream.block_frames)

    def require_device(self) -> None:
        """Errors: DeviceError where the device was lost and has not come back."""
        if self.device is not None and self.device.state is DeviceState.LOST:
            raise DeviceError("The sound device was lost and did not come back: connect it and start again.")

    def stop(self) -> None:
        """Fade, close the device, take the rest down."""
        if self.device is not None:
            if self.bridge.session.health.count(BLOCKS):
                self.bridge.fade_out()
            self.device.stop()
            self.device.close()
            self._on_event("device_closed")
            self.device = self._engine = None
        self.bridge.close()
