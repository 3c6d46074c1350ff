"""How often what goes into a training item; `--mix` on the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace


class MixError(ValueError):
    """Ratios that no stream of items can have: one line with what, why and what to do."""


@dataclass(frozen=True)
class Mix:
    """Weights of accompaniments, weights of voices, and chances from 0 to 1.

    Accompaniments: `background` (whole instrumentals), `recorded` (songs in stems), `sequenced` (one-shots),
    `synthetic` (the generator). Voices: `singing`, `recorded_voice` (of songs), `synthetic_voice`, `speech`.
    Weights count among what there are recordings for. Raises MixError.
    """

    background: float = 0.28
    recorded: float = 0.30
    sequenced: float = 0.26
    synthetic: float = 0.16
    singing: float = 0.68
    recorded_voice: float = 0.19
    synthetic_voice: float = 0.08
    speech: float = 0.05
    without_vocals: float = 0.15
    vocals_alone: float = 0.04

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise MixError(f"mix: {field.name} must be a number of at least 0, not {value}")
        if self.without_vocals + self.vocals_alone > 1.0:
            raise MixError("mix: without_vocals and vocals_alone are chances; together they are at most 1")
        for weights in (self.accompaniments, self.voices):
            if math.isinf(sum(weights.values())):
                raise MixError(f"mix: {', '.join(weights)} are too large together; give smaller ratios")
            if not any(weights.values()):
                raise MixError(f"mix: {', '.join(weights)} are all 0; give one of them more")

    @property
    def accompaniments(self) -> dict[str, float]:
        """Weight by kind of accompaniment."""
        return {kind: getattr(self, kind) for kind in ("background", "recorded", "sequenced", "synthetic")}

    @property
    def voices(self) -> dict[str, float]:
        """Weight by kind of voice."""
        return {
            "singing": self.singing,
            "recorded": self.recorded_voice,
            "synthetic": self.synthetic_voice,
            "speech": self.speech,
        }


DEFAULT_MIX = Mix()


def parse_mix(text: str) -> Mix:
    """The mix of `background=0.3,recorded=0.5`; what is not named keeps its default. Raises MixError."""
    known = [field.name for field in fields(Mix)]
    given: dict[str, float] = {}
    for entry in text.split(","):
        name, _, value = (part.strip() for part in entry.partition("="))
        if name not in known:
            raise MixError(f"mix: {name or entry!r} is unknown; choose from {', '.join(known)}")
        if name in given:
            raise MixError(f"mix: {name} is given twice; give it once")
        try:
            given[name] = float(value)
        except ValueError:
            raise MixError(f"mix: {name} must be a number, not {value!r}; write {name}=0.3") from None
    return replace(DEFAULT_MIX, **given)
