"""Scores, card and README section of the built-in models: `python -m model.training.card`.

`--weights model/weights --audio LIB` scores the committed weights and writes everything anew;
`--training RUN` publishes a training's weights there first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from model.catalogue import BUILTIN, SUFFIX, at_look_ahead
from model.causal import CausalBSRoformer
from model.checkpoint import CheckpointError, ModelCard, fill, load_checkpoint, save_checkpoint
from model.config import CausalConfig, ConfigError
from model.files import write_whole
from model.profiles import PROFILES
from model.training.arguments import OneLineParser, run_tool, seconds, tell
from model.training.dataset import (
    CHOPPED_VOICE,
    DOUBLED_VOICE,
    OTHER_THROAT,
    PRODUCED_VOICE,
    SWEPT_OTHER,
    VOICE_DB,
)
from model.training.evaluate import HeldOutSong, Row, evaluate, held_out_songs, whole
from model.training.mix import DEFAULT_MIX
from model.training.recipe import TrainingError
from model.training.recordings import TrainingDataError
from model.training.score_tables import (
    MEASURES,
    gate_lines,
    gates_of,
    means,
    models_table,
    readme_section,
    score_rows,
    shown,
)
from model.training.state import read_saved

LICENCE = "CC-BY-4.0"
TEMPLATE = Path(__file__).with_name("card_template.md")
SCORES = "scores.json"
LOADS = "hop_times.json"
"""What `benchmarks.model_hop --record` writes beside the weights."""

BEGIN = "<!-- scores, written by `python -m model.training.card`: -->"
END = "<!-- end of scores -->"

PLAIN_SYSTEMS = {
    "mixture": "the unprocessed mixture",
    "band_pass": "a plain band-pass",
    "static_eq": "a static EQ",
}
"""What a model should be better than, as its card calls it."""

FRAMING = ("hop_frames", "look_ahead_frames")

ITEM_S = 2.55
"""Of the items of checkpoints that do not say: the own recipe's."""

_PUBLISHED = {"config", "ema", "step", "batch"}
"""What of a training's checkpoint is used."""

Tell = Callable[[str], None]


class PublishError(ValueError):
    """Models that cannot be published: one line with what, why and what to do."""


EXPECTED = (CheckpointError, ConfigError, PublishError, TrainingDataError, TrainingError)
"""What a user can put right."""


HISTORIES = "histories.toml"
"""Beside the weights: how a model was trained, where that takes more words than `_TRAINED`."""
_TRAINED = "Trained for {steps} steps ({hours:.1f} hours of mixed audio) with `stembridge train`."


@dataclass(frozen=True)
class Release:
    """A built-in model to score and publish, and for how long it was trained."""

    network: CausalBSRoformer
    steps: int
    hours: float

    def facts(self) -> dict[str, Any]:
        """As `scores.json` keeps them."""
        config = self.network.config
        return {
            "steps": self.steps,
            "hours": round(self.hours, 2),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "sample_rate_hz": config.sample_rate_hz,
            "latency_frames": config.latency_frames,
            "stem_names": list(config.stem_names),
            "sha256": digest_of(self.network.state_dict()),
        }


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors by name, shape and bytes, in hexadecimal.

    Not of their file: the order in its header is by chance, and it holds the card too.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {list(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def committed(weights: Path, replaced: Collection[str] = ()) -> dict[str, Release]:
    """The built-in models of a folder by name, but for those that are being replaced.

    Raises PublishError, CheckpointError.
    """
    told = _read(weights / SCORES).get("models", {})
    paths = sorted(weights.glob(f"{BUILTIN}-*{SUFFIX}"))
    return {path.stem: _committed(path, told) for path in paths if path.stem not in replaced}


def _committed(path: Path, told: Mapping[str, Any]) -> Release:
    """A model, and how `scores.json` says it was trained."""
    network, facts = load_checkpoint(path)[0], told.get(path.stem, {})
    if not {"steps", "hours"} <= facts.keys() or not isinstance(network, CausalBSRoformer):
        raise PublishError(f"{path}: not in {SCORES} beside it; publish it with --training, or move it")
    return Release(network, facts["steps"], facts["hours"])


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file. Raises PublishError where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise PublishError(f"{path}: not JSON ({error}); restore it") from None
    if not isinstance(found, dict):
        raise PublishError(f"{path}: not a JSON object; restore it")
    return found


def trained(training: str) -> Release:
    """The EMA weights of a training's folder, rounded as they ship; of one for several look-aheads,
    FOLDER@FRAMES chooses one.

    Raises PublishError where there is no checkpoint, or none of that look-ahead; TrainingError and
    CheckpointError where it is broken.
    """
    folder, look_ahead = at_look_ahead(training)
    path = Path(folder) / "training.pt"
    if not path.is_file():
        raise PublishError(f"{path}: no such checkpoint; give a training as FOLDER or FOLDER@FRAMES")
    try:
        return _release(read_saved(path, _PUBLISHED), look_ahead, path)
    except ConfigError as error:
        raise PublishError(f"{training}: {error}") from None
    except (TypeError, AttributeError) as error:
        raise PublishError(f"{path}: is damaged ({error}); give another training") from None


def _release(saved: Mapping[str, Any], look_ahead: int | None, path: Path) -> Release:
    config = CausalConfig.from_dict(saved["config"])
    if look_ahead is not None:
        config = config.with_look_ahead(look_ahead)
    network = fill(config, saved["ema"], path)
    assert isinstance(network, CausalBSRoformer)
    hours = saved["step"] * saved["batch"] * saved.get("recipe", {}).get("item_s", ITEM_S) / 3600
    return Release(network.round_band_weights(), saved["step"], hours)


def framed_as(config: CausalConfig) -> str:
    """The built-in name of the profile with this framing. Raises PublishError where none has it."""
    for profile, known in PROFILES.items():
        if all(getattr(config, key) == getattr(known, key) for key in FRAMING):
            return f"{BUILTIN}-{profile}"
    raise PublishError(
        f"hop {config.hop_frames}, look-ahead {config.look_ahead_frames}: no profile has this framing;"
        " train one that has, or choose a look-ahead with FOLDER@FRAMES"
    )


def score(
    releases: Mapping[str, Release], songs: Sequence[HeldOutSong], loads: Mapping[str, Any], tell: Tell
) -> dict[str, Any]:
    """What `scores.json` holds: facts of the models, all rows, and the gates of every model."""
    rows = evaluate({name: whole(release.network) for name, release in releases.items()}, songs, tell)
    models = {
        name: (facts := release.facts()) | {"load": measured_load(loads, name, facts["sha256"])}
        for name, release in releases.items()
    }
    return {"models": models, "rows": rows, "gates": {name: gates_of(rows, name) for name in models}}


def measured_load(loads: Mapping[str, Any], name: str, sha256: str) -> dict[str, Any] | None:
    """What `benchmarks.model_hop --record` measured of a model, if it was of these weights: rounded ones are
    faster."""
    found: dict[str, Any] | None = loads.get(name)
    return found if found and found["sha256"] == sha256 else None


def card_text(table: Mapping[str, Any], seconds: float, histories: Mapping[str, str]) -> str:
    """The model card of all models of a score table, as Markdown. `histories`: in words, by name."""
    names = list(table["models"])
    return TEMPLATE.read_text(encoding="utf-8").format(
        models=models_table(table["models"]),
        history="\n\n".join(
            _history(name, facts, histories) for name, facts in table["models"].items()
        ),
        scores=score_rows(means(table["rows"]) + table["rows"], names),
        gates="\n".join(f"- {line}" for line in gate_lines(table["gates"])),
        below="".join(_shortfalls(table["rows"], name) for name in names),
        seconds=seconds, without=DEFAULT_MIX.without_vocals, produced=PRODUCED_VOICE, doubled=DOUBLED_VOICE,
        chopped=CHOPPED_VOICE, throat=OTHER_THROAT, swept=SWEPT_OTHER,
        quietest=VOICE_DB[0], loudest=VOICE_DB[1], accompaniments=_shares(DEFAULT_MIX.accompaniments),
        voices=_shares(DEFAULT_MIX.voices),
    )  # fmt: skip


def _history(name: str, facts: Mapping[str, Any], histories: Mapping[str, str]) -> str:
    return f"`{shown(name)}`: " + histories.get(name, _TRAINED).format(**facts)


def _shortfalls(rows: Sequence[Row], model: str) -> str:
    """Where a model is below something plain, in plain words."""
    lines = []
    for system, name in PLAIN_SYSTEMS.items():
        for measure, unit in MEASURES.items():
            where = [
                f"{row['song']} ({row['stem']})" for row in rows if _is_below(row, model, system, measure)
            ]
            if where:
                lines.append(f"- `{shown(model)}` is below {name} in {unit} on: {', '.join(where)}.\n")
    return "".join(lines)


def _is_below(row: Row, model: str, system: str, measure: str) -> bool:
    mine, theirs = ((row[name] or {}).get(measure) for name in (model, system))
    return mine is not None and theirs is not None and mine < theirs


def _shares(weights: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%} {kind}" for kind, share in weights.items())


def histories_of(weights: Path) -> dict[str, str]:
    """What HISTORIES tells of the models of a folder, if it is there. Raises PublishError."""
    told = weights / HISTORIES
    try:
        return tomllib.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    except ValueError as error:  # of TOML and of UTF-8
        raise PublishError(f"{told}: not TOML ({error}); correct it") from None


def publish(
    releases: Mapping[str, Release],
    table: dict[str, Any],
    weights: Path,
    seconds: float,
    histories: Mapping[str, str],
) -> None:
    """Write scores.json, MODEL_CARD.md, the weights with their card inside, and the README's section.

    Each file is whole or as it was. Raises CheckpointError, OSError.
    """
    weights.mkdir(parents=True, exist_ok=True)
    for name, release in releases.items():
        own = {"models": {name: table["models"][name]}, "gates": {name: table["gates"][name]}}
        text = card_text({**own, "rows": table["rows"]}, seconds, histories)
        _save(weights / f"{name}{SUFFIX}", release.network, ModelCard(LICENCE, "stembridge", text))
    write_whole(weights / "MODEL_CARD.md", card_text(table, seconds, histories).encode())
    write_whole(weights / SCORES, (json.dumps(table, indent=1, allow_nan=False) + "\n").encode())
    renew_section(weights.resolve().parents[1] / "README.md", readme_section(table))


def _save(path: Path, network: CausalBSRoformer, card: ModelCard) -> None:
    """Write weights and card, unless the file holds just these: its header's order is by chance."""
    if path.is_file():
        found, found_card = load_checkpoint(path)
        mine, theirs = network.state_dict(), found.state_dict()
        same = mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
        if same and (found.config, found_card) == (network.config, card):
            return
    save_checkpoint(path, network, card)


def renew_section(page: Path, section: str) -> None:
    """Put the section between the two markers of a page; a page without them is left as it is."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if end:
        write_whole(page, f"{head}{begin}\n\n{section}\n\n{end}{tail}".encode())


def main() -> None:
    """Score, publish, print tables and gates; errors are one line and exit code 2."""
    run_tool(lambda: _run(_arguments()), EXPECTED)


def _arguments() -> argparse.Namespace:
    parser = OneLineParser(prog="python -m model.training.card", description=__doc__)
    parser.add_argument(
        "--training",
        action="append",
        default=[],
        metavar="FOLDER[@FRAMES]",
        help="publish a training, at one of its look-aheads, as the profile framed so (repeatable)",
    )
    parser.add_argument("--audio", type=Path, required=True, help="library with a test split")
    parser.add_argument("--weights", type=Path, required=True, help="folder of weights, card and scores")
    parser.add_argument("--seconds", type=seconds, default=30.0, help="length of each test song")
    return parser.parse_args()


def _run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    news = [trained(training) for training in args.training]
    fresh = {framed_as(release.network.config): release for release in news}
    releases = dict(sorted((committed(args.weights, set(fresh)) | fresh).items()))
    if not releases:
        raise PublishError(f"{args.weights}: no {BUILTIN}-*{SUFFIX} to score; publish one with --training")
    histories = histories_of(args.weights)  # before the time that scoring takes
    with TemporaryDirectory() as cache:
        songs = held_out_songs(args.audio, Path(cache), tell, args.seconds)
    loads = _read(args.weights / LOADS)
    table = score(releases, songs, loads, tell)
    publish(releases, table, args.weights, args.seconds, histories)
    print(score_rows(means(table["rows"]) + table["rows"], list(releases)))
    print("\n".join(gate_lines(table["gates"])))


if __name__ == "__main__":
    main()
