"""Models by name: built-in profiles, those that were imported here, and published ones that can be."""

import functools
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.config import WHOLE_SIGNAL
from model.profiles import DEFAULT_PROFILE, PROFILES

WEIGHTS = Path(__file__).parent / "weights"
PUBLISHED = Path(__file__).parent / "catalogue.toml"
BUILTIN = "builtin"
"""Another name of the default profile."""
SUFFIX = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".th")
FOLDER_VARIABLE = "STEMBRIDGE_MODELS"
RESERVED = {BUILTIN, "signature", *PROFILES}
DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?")
"""File names that mean devices on Windows, whatever follows their first dot."""
LOOK_AHEAD = re.compile(r"[0-9]{1,5}|all")
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


class CatalogueError(ValueError):
    """A model name that means nothing here; one line lists those that do."""


@dataclass(frozen=True)
class Entry:
    """A published checkpoint.

    `sha256` and `licence` are "" where none is on record; `bytes` and `about_mb` are 0 where unknown.
    `settings` are those of RoformerConfig that the weights do not tell, or must agree with. `unsure` says
    what was not confirmed.
    """

    id: str
    title: str
    address: str
    about_mb: float
    bytes: int
    sha256: str
    licence: str
    good_for: str
    score: str
    unsure: str
    settings: Mapping[str, Any] = field(hash=False)
    config_address: str = ""

    @property
    def stem_names(self) -> tuple[str, ...]:
        """The stems in their order; empty where only the author's YAML tells."""
        return tuple(self.settings.get("stem_names", ()))


@functools.cache
def published_models() -> dict[str, Entry]:
    """The published checkpoints by id. Threads: any."""
    tables = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    return {name: Entry(id=name, **_frozen(table)) for name, table in tables.items()}


def _frozen(table: dict[str, Any]) -> dict[str, Any]:
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in table["settings"].items()}
    return table | {"settings": settings}


def models_folder() -> Path:
    """Where imported models lie: $STEMBRIDGE_MODELS, or a folder in the user's data directory."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    default = os.environ.get("LOCALAPPDATA") or "~" if sys.platform == "win32" else "~/.local/share"
    return Path(os.environ.get("XDG_DATA_HOME") or default).expanduser() / "stembridge" / "models"


def check_name(name: str) -> str:
    """`name`, if a model may be called that. Raises CatalogueError."""
    taken = name in RESERVED or name.endswith(SUFFIX) or DEVICES.fullmatch(name)
    if NAME.fullmatch(name) and not taken:
        return name
    raise CatalogueError(
        f"{name!r:.80} cannot name a model: use 1 to 64 of a-z, 0-9, '-', '_' and '.', with a letter or digit"
        f" at both ends, and not {', '.join(sorted(RESERVED))}, *{SUFFIX} or a device of Windows"
    )


def installed_path(name: str) -> Path:
    """Where the imported model of that name lies or would lie. Raises CatalogueError."""
    return models_folder() / f"{check_name(name)}{SUFFIX}"


def imported_models() -> dict[str, Path]:
    """The models that were imported, by name."""
    return {
        path.stem: path for path in sorted(models_folder().glob(f"*{SUFFIX}")) if NAME.fullmatch(path.stem)
    }


def builtin_models() -> dict[str, Path]:
    """The profiles whose weights (builtin-NAME.safetensors) are installed, by name; the default one first."""
    files = ((name, WEIGHTS / f"{BUILTIN}-{name}{SUFFIX}") for name in (DEFAULT_PROFILE, *PROFILES))
    return {name: path for name, path in files if path.is_file()}


def known_models() -> dict[str, Path]:
    """Model ids that can be used at once, and their checkpoints."""
    return imported_models() | builtin_models()


def canonical(model: str) -> str:
    """The id that `known_models` has."""
    return DEFAULT_PROFILE if model == BUILTIN else model


def at_look_ahead(model: str) -> tuple[str, int | None]:
    """Of MODEL@FRAMES or MODEL@all: the model, and which of its look-aheads; None where it is not said."""
    name, _, ahead = model.rpartition("@")
    if not name or not LOOK_AHEAD.fullmatch(ahead):
        return model, None
    return name, WHOLE_SIGNAL if ahead == "all" else int(ahead)


def look_ahead_suffix(model: str) -> str:
    """The @FRAMES or @all of a name; empty where there is none."""
    return model.removeprefix(at_look_ahead(model)[0])


def resolve(model: str) -> Path:
    """The checkpoint of a model id, or of a path that ends in .safetensors, at whatever look-ahead.

    Raises CatalogueError.
    """
    plain, _ = at_look_ahead(model)
    known, name = known_models(), canonical(plain)
    if name in known:
        return known[name]
    if plain.endswith(SUFFIX):
        return Path(plain)
    if plain in published_models():
        raise CatalogueError(f"model {plain!r} is not here yet; get it with `stembridge models pull {plain}`")
    if Path(plain).suffix in PICKLES:
        raise CatalogueError(
            f"{plain}: pickles are not loaded; make a model of it with `stembridge models import {plain}`"
        )
    problem = f"unknown model {model!r:.80}"
    if name in PROFILES:
        problem = f"profile {name!r} has no weights in this installation"
    raise CatalogueError(
        f"{problem}; known are: {', '.join(known) or 'none'}; or give a path to a {SUFFIX} file,"
        " or see `stembridge models list`"
    )
