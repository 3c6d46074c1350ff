"""All shared memory of one run: created once by the audio process, attached by its children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from streaming.health import Health
from streaming.segment import Field, Segment
from streaming.snapshot import CONTROLS, MAX_STEMS, PLAN, Snapshot
from streaming.timeline import HEADER_WORDS, Timeline
from streaming.wakeup import WORDS, Wakeup

WAKES = ("separator", "plugins")
MAX_CHANNELS = 8


class SessionError(ValueError):
    """A session that cannot be laid out."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SessionError(message)


@dataclass(frozen=True)
class SessionSpec:
    """What has to be known before the first byte is laid out. Rates and frames are the device's.

    `stem_latency_frames` is the separator's algorithmic latency; `chained[s]` says that stem `s` passes
    through plugins. `capacity_frames` is how far back the timelines reach.
    """

    sample_rate_hz: int
    channels: int
    stem_names: tuple[str, ...]
    hop_frames: int
    stem_latency_frames: int
    chained: tuple[bool, ...]
    capacity_frames: int

    def __post_init__(self) -> None:
        _require(1 <= self.stems <= MAX_STEMS, f"{self.stems} stems: a session carries 1 to {MAX_STEMS}")
        _require(
            1 <= self.channels <= MAX_CHANNELS,
            f"{self.channels} channels: a session carries 1 to {MAX_CHANNELS}",
        )
        _require(len(self.chained) == self.stems, "each stem needs its entry in `chained`")
        _require(
            self.capacity_frames >= self.hop_frames >= 1,
            f"capacity of {self.capacity_frames} frames: it must hold the hop of {self.hop_frames}",
        )

    @property
    def stems(self) -> int:
        """How many stems."""
        return len(self.stem_names)

    @property
    def hop_phase_frames(self) -> int:
        """Where a stem's hops begin on the timelines, as a remainder by the hop."""
        return -self.stem_latency_frames % self.hop_frames

    @classmethod
    def from_info(cls, info: dict[str, Any]) -> SessionSpec:
        """The spec that a segment's table of contents holds as JSON values."""
        return cls(**{**info, "stem_names": tuple(info["stem_names"]), "chained": tuple(info["chained"])})


def _fields(spec: SessionSpec) -> Iterator[Field]:
    rings = {"dry": (), "raw": (spec.stems,), "wet": (spec.stems,)}
    for name, lead in rings.items():
        yield Field(f"{name}.headers", (*lead, HEADER_WORDS), "int64")
        yield Field(f"{name}.data", (*lead, spec.channels, spec.capacity_frames), "float32")
    yield from Snapshot.fields("controls", CONTROLS)
    yield from Snapshot.fields("plan", PLAN)
    yield from Health.fields()
    for name in WAKES:
        yield Field(f"wake.{name}", (WORDS,), "int64")


class Session:
    """The timelines, snapshots and counters of one run.

    Threads: as each member says. `create` and `unlink` belong to the audio process alone.
    """

    def __init__(self, segment: Segment, creator: bool) -> None:
        self.segment = segment
        self.spec = SessionSpec.from_info(segment.info)
        stems = range(self.spec.stems)
        self.dry = Timeline(segment.array("dry.headers"), segment.array("dry.data"))
        self.raw = [Timeline(segment.array("raw.headers")[s], segment.array("raw.data")[s]) for s in stems]
        self.wet = [Timeline(segment.array("wet.headers")[s], segment.array("wet.data")[s]) for s in stems]
        self.controls = Snapshot.of(segment, "controls", CONTROLS)
        self.plan = Snapshot.of(segment, "plan", PLAN)
        self.health = Health.of(segment)
        self.wake_separator = Wakeup(segment.array("wake.separator"), create=creator)
        self.wake_plugins = Wakeup(segment.array("wake.plugins"), create=creator)

    @classmethod
    def create(cls, spec: SessionSpec) -> Session:
        """Make the shared memory of a run. Errors: OSError where /dev/shm is full."""
        fields = list(_fields(spec))
        segment = Segment.create(fields, asdict(spec))
        for field in fields:
            segment.array(field.name).fill(0)  # have the pages now, not one by one in the callback
        return cls(segment, creator=True)

    @classmethod
    def attach(cls, name: str) -> Session:
        """Join the run whose segment is called `name`."""
        return cls(Segment.attach(name), creator=False)

    @property
    def name(self) -> str:
        """What `attach` takes."""
        return self.segment.name

    @property
    def played(self) -> list[Timeline]:
        """What is heard of every stem: wet where it has a chain, else raw."""
        stems = zip(self.wet, self.raw, self.spec.chained, strict=True)
        return [wet if chained else raw for wet, raw, chained in stems]

    def close(self) -> None:
        """Drop every view, then the mapping."""
        segment = self.segment
        self.__dict__.clear()
        self.segment = segment
        segment.close()

    def unlink(self) -> None:
        """Remove the shared memory; the creator's last act."""
        self.segment.unlink()
