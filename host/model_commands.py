"""`stembridge models`: the published checkpoints, and what of them is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from host.errors import UserError, guarded
from model.catalogue import Entry, canonical, imported_models, known_models, published_models

NO_LICENCE = "none stated"
UNLICENSED = (
    "No licence is stated for these weights: without one you may not pass them on, and whether you may use"
    " them is between you and their author. stembridge fetches them from where they were published, no more."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def models() -> None:
    """Get, import, check and remove published models.

    Any BS-RoFormer or Mel-Band RoFormer checkpoint becomes a model with a name of its own, for every --model.
    What others publish are pickles, which can hold code: they are read once, without running any of it, by a
    process of its own without network, and kept as safetensors, which hold numbers only.

    \b
    Examples:
      stembridge models list
      stembridge models pull kim-vocals
      stembridge separate song.flac --model kim-vocals
      stembridge models import mine.ckpt --config mine.yaml --id mine
    """


@models.command("list", short_help="List the models here and those that can be pulled.")
@json_option
@guarded
def list_models(as_json: bool) -> None:
    """List the models on this machine and the published ones that `pull` knows."""
    rows = [_row(name) for name in {**known_models(), **published_models()}]
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table(Column("id", no_wrap=True), "here", "stems", "MB", "licence", "good for", box=None)
    for row in rows:
        here = "broken" if row["problem"] else "yes" if row["here"] else ""
        stems = ", ".join(row["stems"]) or ("" if row["problem"] else "see the YAML")
        size = f"{row['mb']:.0f}" if row["mb"] else "?"
        said = escape(row["problem"] or row["good_for"])
        table.add_row(row["id"], here, stems, size, escape(row["licence"]), said)
    Console().print(table)


@models.command(short_help="Show what is known of a model.")
@click.argument("model")
@json_option
@guarded
def show(model: str, as_json: bool) -> None:
    """Show where a model is from, its licence, stems, configuration and scores."""
    facts = _facts(model)
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        shown = "unknown" if shown is None else shown
        click.echo(f"{name:>14}  {shown}" if name != "text" else f"\n{value}")


@models.command(short_help="Download a published model and import it.")
@click.argument("model")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML to use instead of the author's, where the catalogue leaves something open.",
)
@json_option
@guarded
def pull(model: str, config: Path | None, as_json: bool) -> None:
    """Download a published model from where its author put it, and import it.

    The licence is shown first. A download that breaks off goes on where it broke, also tomorrow. The file
    must have the sha256 that is on record; where none is, that of the first pull is recorded and holds from
    then on.

    \b
    Examples:
      stembridge models pull kim-vocals
      stembridge models pull mel-2s-musdb
    """
    from host.model_pull import pull_model

    entry = _published(model)
    _show_licence(entry)
    pull_model(entry, config, _say)
    _tell(model, as_json)


@models.command("import", short_help="Import a checkpoint that you have.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--id", "name", required=True, help="What to call the model from now on.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The YAML that came with the checkpoint; not needed for an id of the catalogue.",
)
@click.option(
    "--zero-dc/--keep-dc",
    default=None,
    help="Whether bin 0 of every stem is silenced, where the YAML does not say so: mostly yes for models"
    " trained with the code of September 2025 or later (--zero-dc), no for earlier ones (--keep-dc).",
)
@click.option("--licence", default="", help="SPDX licence of the weights, for the model's card.")
@click.option("--source", default="", help="Where the file is from, for the model's card.")
@json_option
@guarded
def import_file(
    file: Path,
    name: str,
    config: Path | None,
    zero_dc: bool | None,
    licence: str,
    source: str,
    as_json: bool,
) -> None:
    """Import a BS-RoFormer or Mel-Band RoFormer checkpoint (.ckpt, .th, .pth, .pt, .safetensors).

    Its sha256 is printed before anything is read. What the weights tell is compared with the YAML; where the
    two differ, nothing is imported.

    \b
    Examples:
      stembridge models import model.ckpt --config model.yaml --id mine --keep-dc
      stembridge models import downloads/MelBandRoformer.ckpt --id kim-vocals
    """
    from host.model_pull import import_own

    import_own(file, name, config, zero_dc, licence, source, _say)
    _tell(name, as_json)


@models.command(short_help="Check the models here against their recorded hashes.")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@json_option
@guarded
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Check imported models, all or those named, against the sha256 that was recorded with them.

    Exit code 2 where one has changed. `sha256sum -c` on the .sha256 files beside them says the same.
    """
    from host.model_pull import verdict

    verdicts = {name: verdict(_imported(name)) for name in names or imported_models()}
    if as_json:
        click.echo(json.dumps(verdicts))
    else:
        for name, said in verdicts.items():
            click.echo(f"{name}: {said}")
    if bad := [name for name, said in verdicts.items() if said != "ok"]:
        raise UserError(
            f"not as they were imported: {', '.join(bad)}; `models remove` them and get them again"
        )


@models.command(short_help="Remove an imported model.")
@click.argument("model")
@json_option
@guarded
def remove(model: str, as_json: bool) -> None:
    """Remove an imported model, or an unfinished download; `pull` or `import` brings it back."""
    from host.model_pull import remove_model

    removed = remove_model(model)
    first = removed[0] if removed else _imported(model)
    click.echo(json.dumps({"id": model, "removed": str(first)}) if as_json else f"removed {first}")


def _tell(name: str, as_json: bool) -> None:
    """Say what a new model is, as `show` does, or in short."""
    facts = _facts(name)
    short = f"{facts['file']}: {', '.join(facts['stems'])}\nUse it with --model {name}"
    click.echo(json.dumps(facts) if as_json else short)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _published(model: str) -> Entry:
    entry = published_models().get(model)
    if entry is None:
        raise UserError(
            f"there is no published model {model!r:.80} in the catalogue; see `stembridge models list`, or"
            " use `stembridge models import` for a file that you have"
        )
    return entry


def _imported(model: str) -> Path:
    path = imported_models().get(model)
    if path is None:
        known = ", ".join(imported_models()) or "none"
        raise UserError(f"no model {model!r:.80} was imported here; imported are: {known}")
    return path


def _show_licence(entry: Entry) -> None:
    _say(f"{entry.title}\nfrom    {entry.address}\nlicence {entry.licence or NO_LICENCE}")
    if not entry.licence:
        _say(UNLICENSED)
    if entry.unsure:
        _say(f"unsure  {entry.unsure}")


def _row(name: str) -> dict[str, Any]:
    facts = _facts(name)
    wanted = {
        "id": name,
        "here": False,
        "stems": [],
        "mb": None,
        "licence": "",
        "good_for": "",
        "problem": "",
    }
    return {key: facts.get(key, default) for key, default in wanted.items()}


def _facts(model: str) -> dict[str, Any]:
    """All that is known of a model, from the catalogue and from its file. Errors: CatalogueError."""
    entry, path = published_models().get(model), known_models().get(canonical(model))
    if entry is None and path is None:
        raise UserError(f"unknown model {model!r:.80}; see `stembridge models list`")
    facts: dict[str, Any] = {"id": model, "here": path is not None}
    if entry is not None:
        facts |= _entry_facts(entry)
    if path is not None:
        facts |= _file_facts(path)
    return facts


def _entry_facts(entry: Entry) -> dict[str, Any]:
    from host.digests import recorded, source_record

    return {
        "title": entry.title,
        "good_for": entry.good_for,
        "score": entry.score or "none published",
        "stems": list(entry.stem_names),
        "licence": entry.licence or NO_LICENCE,
        "address": entry.address,
        "mb": entry.bytes / 1e6 or entry.about_mb or None,
        "sha256": entry.sha256 or recorded(source_record(entry.id)) or "to be recorded at first import",
        "unsure": entry.unsure,
        "configuration": {k: list(v) if isinstance(v, tuple) else v for k, v in entry.settings.items()},
    }


def _file_facts(path: Path) -> dict[str, Any]:
    from host.digests import record_of, recorded
    from model.header import CheckpointError, read_header

    facts: dict[str, Any] = {"file": str(path), "mb": path.stat().st_size / 1e6}
    try:
        config, card = read_header(path)
    except CheckpointError as error:
        return facts | {"problem": _printable(str(error))}
    return facts | {
        "stems": list(config.stem_names),
        "licence": _printable(card.licence),
        "source": _printable(card.source),
        "file_sha256": recorded(record_of(path)),
        "configuration": config.to_dict(),
        "text": _printable(card.text),
    }


def _printable(text: str) -> str:
    """A stranger's text without what would steer the terminal."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")
