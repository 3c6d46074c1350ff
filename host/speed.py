"""Which of the built-in profiles this machine can run live: measured, and the advice that follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from host.doctor import Finding
from host.settings import DEFAULT_ALLOWANCE_MS
from model.catalogue import builtin_models
from model.profiles import DEFAULT_PROFILE

COMFORTABLE_LOAD = 0.7
"""Up to here 99 of 100 hops leave room for everything else that the machine does."""

MEASURED_S = 2.0


@dataclass(frozen=True)
class ProfileSpeed:
    """A profile, its latency, and its hops' compute time: load is that over the hop's duration."""

    name: str
    latency_ms: float
    hop_ms: float
    load_p50: float
    load_p99: float

    @property
    def fits(self) -> bool:
        """Whether the default settings will do."""
        return self.load_p99 < COMFORTABLE_LOAD

    @property
    def keeps_up(self) -> bool:
        """Whether more time per hop would do: nothing helps where the usual hop leaves no room."""
        return self.load_p50 < COMFORTABLE_LOAD

    @property
    def allowance_ms(self) -> int:
        """Twice the compute time of 99 of 100 hops, in steps of 5 ms and above the default."""
        needed = 5 * math.ceil(2 * self.load_p99 * self.hop_ms / 5)
        return max(needed, 5 * math.ceil((DEFAULT_ALLOWANCE_MS + 1) / 5))


@dataclass(frozen=True)
class Advice:
    """The profile to use (None: no live one), further options, and why."""

    profile: str | None
    options: str
    why: str


def measure(name: str, path: Path) -> ProfileSpeed:
    """Time a profile's hops on one core for two seconds, paced as live sound is.

    Threads: changes torch's settings of the one that calls. Errors as `open_separator`.
    """
    from host.hop_times import summary, time_hops
    from host.models import open_separator  # torch takes over a second

    separator = open_separator(str(path), 44100)
    hop_s = separator.hop_frames / separator.sample_rate_hz
    separator.warm_up()
    figures = summary(time_hops(separator, round(MEASURED_S / hop_s), paced=True), hop_s)
    separator.close()
    latency_ms = 1000 * separator.latency_frames / separator.sample_rate_hz
    loads = (round(figures[f"load_{kind}"], 3) for kind in ("p50", "p99"))
    return ProfileSpeed(name, round(latency_ms, 1), round(1000 * hop_s, 2), *loads)


def recommend(speeds: Sequence[ProfileSpeed]) -> Advice:
    """The default profile where it runs with room to spare; else more time per hop; else a lighter profile.

    Threads: any.
    """
    by_latency = sorted(speeds, key=lambda speed: speed.latency_ms)
    ordered = sorted(by_latency, key=lambda speed: speed.name != DEFAULT_PROFILE)
    for speed in ordered[:1]:
        if speed.fits:
            return Advice(speed.name, "", _fitting(speed, by_latency))
        if speed.keeps_up:
            why = f"{speed.name} keeps up, but 1 hop in 100 takes {speed.load_p99:.2f} of its time or more"
            return Advice(speed.name, f"--allowance-ms {speed.allowance_ms}", why)
    for speed in ordered[1:]:
        if speed.keeps_up:
            options = "" if speed.fits else f"--allowance-ms {speed.allowance_ms}"
            return Advice(speed.name, options, f"{ordered[0].name} is too slow here, {speed.name} keeps up")
    return Advice(None, "", "no profile keeps up with live sound here: use `stembridge separate` for files")


def _fitting(speed: ProfileSpeed, by_latency: Sequence[ProfileSpeed]) -> str:
    why = f"99 of 100 hops take less than {speed.load_p99:.2f} of their time"
    faster = [other for other in by_latency if other.fits and other.latency_ms < speed.latency_ms]
    return f"{why}; {faster[0].name} ({faster[0].latency_ms:.0f} ms) fits as well" if faster else why


def findings() -> list[Finding]:
    """A row for every installed profile and one with the advice; takes some seconds. Never raises.

    Threads: as `measure`.
    """
    speeds, rows = [], []
    for name, path in builtin_models().items():
        try:
            speed = measure(name, path)
        except (ValueError, RuntimeError, OSError) as error:
            why = " ".join(str(error).split())
            rows.append(Finding(f"speed: {name}", False, why, "install stembridge again"))
            continue
        speeds.append(speed)
        rows.append(_row(speed))
    return [*rows, _advice_row(recommend(speeds))] if speeds else rows


def _row(speed: ProfileSpeed) -> Finding:
    detail = (
        f"{speed.latency_ms:g} ms latency; load p50 {speed.load_p50:.2f}, p99 {speed.load_p99:.2f}"
        f" of a hop of {speed.hop_ms:g} ms"
    )
    remedy = f"--allowance-ms {speed.allowance_ms}" if speed.keeps_up else "a profile with more latency"
    figures = {key: value for key, value in asdict(speed).items() if key != "name"}
    return Finding(f"speed: {speed.name}", speed.fits, detail, remedy, figures)


def _advice_row(advice: Advice) -> Finding:
    choice = f"--model {advice.profile} {advice.options}".strip() if advice.profile else "none"
    detail = f"{choice} ({advice.why})"
    return Finding(
        "recommended profile", advice.profile is not None, detail, "a faster machine", asdict(advice)
    )
