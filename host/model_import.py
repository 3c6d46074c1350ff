"""A published checkpoint becomes a model of this project: hashed, read behind walls, checked, written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.digests import record_of, recorded, sha256_of, source_record, write_record
from host.errors import USER_ERROR
from host.staging import owner_suffix, remove_abandoned
from model.catalogue import FOLDER_VARIABLE, SUFFIX, installed_path

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_BEGINNINGS = (b"PK\x03\x04", b"\x80")
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "LANG")
CHILD_S = 1800.0
LONGEST_REASON = 300


class ImportRefusedError(ValueError):
    """A checkpoint that does not become a model; one line says which, why and what to do."""


class WrongFileError(ImportRefusedError):
    """The file itself is another one than expected, or cannot be read: no settings would help."""


@dataclass(frozen=True)
class Origin:
    """What the card of an imported model says of its weights; `licence` is "" where none is stated."""

    title: str
    address: str
    licence: str


def import_model(
    source: Path,
    name: str,
    stated: Mapping[str, Any],
    origin: Origin,
    say: Callable[[str], None],
    expected_sha256: str = "",
) -> Path:
    """Convert a published checkpoint to the model `name`; the path of its file.

    Parameters: `stated`, settings by the names of RoformerConfig; `say` is told the file's SHA-256 before
    anything of it is read. Where anything is wrong, nothing is left behind.
    Errors: ImportRefusedError, CatalogueError, OSError. Threads: main.
    """
    target = installed_path(name)
    if target.exists():
        raise ImportRefusedError(
            f"there is a model {name!r} already; choose another --id, or `stembridge models remove {name}`"
        )
    _require_file(source)
    digest = sha256_of(source)
    say(f"sha256 {digest}  {source.name}")
    if expected_sha256 and digest != expected_sha256:
        kept = source_record(name)
        help_ = f"if its author replaced it, delete {kept}" if recorded(kept) else "get it again"
        raise WrongFileError(
            f"{source} is not the file on record: its sha256 is {digest}, not {expected_sha256}; {help_}"
        )
    parent = target.parent
    make_folder(parent)
    remove_abandoned(parent)
    with tempfile.TemporaryDirectory(prefix=".import-", suffix=owner_suffix(), dir=parent) as folder:
        made = _convert(source, Path(folder), stated, _card(origin, digest))
        write_record(record_of(target), sha256_of(made), target.name)
        made.chmod(record_of(target).stat().st_mode & 0o777)  # as the user's umask has it
        made.replace(target)
    return target


def make_folder(folder: Path) -> None:
    """Make the folder of models where there is none. Errors: ImportRefusedError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImportRefusedError(
            f"the folder of models, {folder}, cannot be made ({error.strerror}); set {FOLDER_VARIABLE} to a"
            " folder that you may write to"
        ) from None


def _require_file(source: Path) -> None:
    """Raise WrongFileError unless the file's name and its first bytes agree on what it is."""
    if not source.is_file():
        raise WrongFileError(f"no file at {source}; check the path")
    pickled, plain = _holds(source)
    named = source.suffix == SUFFIX
    if pickled and named:
        raise WrongFileError(
            f"{source} is called {SUFFIX} but holds a pickle; rename it to .ckpt if you trust that"
        )
    if not pickled and not named:
        hint = f"rename it to {SUFFIX}" if plain else "get it again"
        raise WrongFileError(f"{source} is no pickled checkpoint, whatever its name says; {hint}")


def _holds(source: Path) -> tuple[bool, bool]:
    """Whether a file begins like a pickle, and whether it begins like safetensors.

    The latter begin with the length of a header in JSON, whose lowest byte may be that of a pickle.
    """
    with source.open("rb") as file:
        head = file.read(9)
    plain = head[8:] == b"{" and int.from_bytes(head[:8], "little") < source.stat().st_size
    return head.startswith(PICKLE_BEGINNINGS) and not plain, plain


def _convert(source: Path, folder: Path, stated: Mapping[str, Any], card: tuple[str, str, str]) -> Path:
    """Write the model into `folder` and return its path."""
    from model.checkpoint import CheckpointError, ModelCard, fill, save_checkpoint
    from model.published import PublishedError, configure

    try:
        tensors = _tensors(source if source.suffix == SUFFIX else _unpickled(source, folder))
    except (PublishedError, CheckpointError) as error:
        raise WrongFileError(
            f"{source}: {error}" if isinstance(error, PublishedError) else str(error)
        ) from None
    try:
        config = configure({key: tuple(tensor.shape) for key, tensor in tensors.items()}, stated)
        network = fill(config, tensors, source)
    except PublishedError as error:
        raise ImportRefusedError(f"{source}: {error}") from None
    except CheckpointError as error:
        raise ImportRefusedError(str(error)) from None
    made = folder / f"model{SUFFIX}"
    save_checkpoint(made, network, ModelCard(*card))
    return made


def _unpickled(source: Path, folder: Path) -> Path:
    """The tensors of a pickle as a safetensors file in `folder`, read by a child that can do little else."""
    target = folder / f"tensors{SUFFIX}"
    environment = {key: os.environ[key] for key in KEPT_VARIABLES if key in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "host.import_child", str(source.resolve()), str(target.resolve())],
            cwd=Path(__file__).parent.parent,
            env=environment | {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=CHILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WrongFileError(f"{source} took over {CHILD_S / 60:.0f} minutes to read; get it again") from None
    if done.returncode != 0:
        raise WrongFileError(
            f"{source} cannot be read: {_reason(done.returncode, done.stderr)}; get it again"
        )
    return target


def _reason(code: int, stderr: bytes) -> str:
    """The last line of the child, as printable text, or how it ended."""
    lines = stderr.decode("utf-8", "replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")
    if code != USER_ERROR or not said:
        return f"reading it ended with code {code}, as where memory or time runs out"
    return "".join(letter for letter in said if letter.isprintable())[:LONGEST_REASON]


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file in float32 under their plain names."""
    from safetensors import SafetensorError, safe_open

    from model.header import unreadable
    from model.published import MAX_TENSORS, PublishedError, plain_names

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MAX_TENSORS:
                raise PublishedError(f"it holds {len(names)} tensors, and no model has over {MAX_TENSORS}")
            found = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from None
    whole = {name: t.float() if t.is_floating_point() else t for name, t in found.items()}
    return plain_names(whole)


def _card(origin: Origin, digest: str) -> tuple[str, str, str]:
    licence = origin.licence or "none stated"
    text = (
        f"# {origin.title}\n\nWeights as published at {origin.address} (sha256 {digest}), in float32.\n\n"
        f"Licence of the weights: {licence}."
        + ("" if origin.licence else " Without a licence nobody may pass them on: keep them to yourself.")
        + "\n"
    )
    return licence, f"{origin.address} (sha256 {digest})", text
