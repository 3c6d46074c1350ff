"""What scores of held-out songs amount to: means, gates, and the tables of README and model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from model.catalogue import BUILTIN
from model.training.evaluate import BASELINES, PHRASES, REAL, SYNTHETIC, TRUE_PARTS, Row

HEADS = {"mixture": "mixture", "band_pass": "band-pass", "static_eq": "static EQ", "oracle": "oracle mask"}
SETS = {REAL: "real songs", PHRASES: "phrases over instrumentals", SYNTHETIC: "synthetic songs"}
MEASURES = {"si_sdr": "SI-SDR", "sdr": "SDR"}


@dataclass(frozen=True)
class Gate:
    """What a model has to reach: so much SI-SDR above the best of some baselines, in the mean of a set."""

    kind: str
    stem: str
    above: tuple[str, ...]
    least_db: float
    every_song: bool = False

    def __str__(self) -> str:
        rivals = "the better of mixture and band-pass" if len(self.above) > 1 else HEADS[self.above[0]]
        if self.stem == "accompaniment":
            rivals = "the mixture less the scaled band-pass"
        every = ", better on every song" if self.every_song else ""
        return f"{SETS[self.kind]}, {self.stem}: {self.least_db:g} dB above {rivals}{every}"


GATES = (
    Gate(REAL, "vocals", ("mixture", "band_pass"), 3.0, every_song=True),
    Gate(REAL, "accompaniment", ("band_pass",), 1.5),
    Gate(SYNTHETIC, "vocals", ("mixture", "band_pass"), 4.0),
    Gate(SYNTHETIC, "drums", ("mixture",), 4.0),
    Gate(SYNTHETIC, "bass", ("mixture",), 4.0),
)


def gains_db(rows: Sequence[Row], gate: Gate, model: str) -> dict[str, float]:
    """By song: SI-SDR of the model less that of the best of the gate's baselines on the same song."""
    return {
        row["song"]: row[model]["si_sdr"] - max(row[system]["si_sdr"] for system in gate.above)
        for row in rows
        if (row["set"], row["stem"]) == (gate.kind, gate.stem) and row[model]
    }


def gates_of(rows: Sequence[Row], model: str) -> list[dict[str, Any]]:
    """Every gate with what the model reaches, in dB: `mean_db`, `worst_db` and the `worst_song`.

    A gate of songs or stems that were not scored is left out.
    """
    found = []
    for gate in GATES:
        gains = gains_db(rows, gate, model)
        if not gains:
            continue
        mean, worst = fmean(gains.values()), min(gains, key=lambda song: gains[song])
        met = mean >= gate.least_db and (not gate.every_song or gains[worst] > 0)
        figures = {"mean_db": round(mean, 2), "worst_db": round(gains[worst], 2), "worst_song": worst}
        found.append({"gate": str(gate), "met": met, **figures})
    return found


def shown(model: str) -> str:
    """What a model is called on the command line."""
    return model.removeprefix(f"{BUILTIN}-")


def gate_lines(gates: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """One line for every gate of every model: pass or short."""
    return [
        f"{shown(model)}: {'pass' if gate['met'] else 'short'}, {gate['gate']}: {gate['mean_db']:+.1f} dB"
        f" in the mean, {gate['worst_db']:+.1f} dB on {gate['worst_song']}"
        for model, found in gates.items()
        for gate in found
    ]


def means(rows: Sequence[Row]) -> list[Row]:
    """The mean over the songs of every set and stem, by system; `song` says how many they were.

    A system that lacks one of the songs has none: its mean would not compare.
    """
    systems = [key for key in (rows[0] if rows else {}) if key not in ("set", "song", "stem")]
    found = []
    for kind in SETS:
        for stem in TRUE_PARTS:
            same = [row for row in rows if (row["set"], row["stem"]) == (kind, stem)]
            if same:
                scores = {system: _mean_scores([row[system] for row in same]) for system in systems}
                name = f"{SETS[kind]}, mean of {len(same)}"
                found.append({"set": kind, "song": name, "stem": stem, **scores})
    return found


def _mean_scores(scores: Sequence[Mapping[str, float | None] | None]) -> dict[str, float | None] | None:
    if any(score is None for score in scores):
        return None
    return {measure: _mean([score[measure] for score in scores if score]) for measure in MEASURES}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 2) if len(known) == len(values) else None


def score_rows(rows: Sequence[Row], models: Sequence[str]) -> str:
    """A Markdown table of rows: SI-SDR and SDR of baselines and models."""
    heads = ["songs", "stem", *(HEADS[name] for name in BASELINES), *map(shown, models)]
    lines = [markdown_line(heads), markdown_line(["---", "---", *["--:"] * (len(heads) - 2)])]
    for row in rows:
        cells = [_cell(row[system]) for system in (*BASELINES, *models)]
        lines.append(markdown_line([row["song"], row["stem"], *cells]))
    return "\n".join(lines)


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table. Threads: any."""
    return f"| {' | '.join(cells)} |"


def _cell(scores: Mapping[str, float | None] | None) -> str:
    if scores is None:
        return "-"
    values = [scores[measure] for measure in MEASURES]
    return " / ".join("-" if value is None else f"{value:.1f}" for value in values)


def models_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of the models: latency, size, load per hop where it was measured."""
    load = "load per hop on one core, p50 / p99, at the live process's priority"
    heads = ["model", "latency", "parameters", load]
    lines = [markdown_line(heads), markdown_line(["---"] * len(heads))]
    for name, facts in models.items():
        frames, ms = facts["latency_frames"], facts["latency_frames"] / facts["sample_rate_hz"] * 1000
        size = f"{facts['parameters'] / 1e6:.2f} million"
        lines.append(
            markdown_line([shown(name), f"{frames} frames, {ms:.1f} ms", size, _load_cell(facts["load"])])
        )
    return "\n".join(lines)


def _load_cell(load: Mapping[str, Any] | None) -> str:
    if load is None:
        return "not measured"
    return f"{load['load_p50']:.2f} / {load['load_p99']:.2f} ({load['machine']})"


_LEGEND = """SI-SDR / SDR in dB, higher is better. SDR is the median over 1-s windows: where nobody sings in
most of them, the mixture's is that of the accompaniment alone. For the accompaniment the band-pass is the
mixture less the best-scaled band-pass of the vocals; the static EQ is fitted on the other songs."""


def readme_section(table: Mapping[str, Any]) -> str:
    """The part of the README that `scores.json` decides: models, means by set and stem, real songs, gates."""
    shown = means(table["rows"]) + [row for row in table["rows"] if row["set"] == REAL]
    met = [gate["met"] for gates in table["gates"].values() for gate in gates]
    gates = [
        f"Gates met: {sum(met)} of {len(met)}.",
        "",
        *(f"- {line}" for line in gate_lines(table["gates"])),
    ]
    scores = score_rows(shown, list(table["models"]))
    return "\n\n".join([models_table(table["models"]), _LEGEND, scores, "\n".join(gates)])
