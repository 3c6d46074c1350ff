"""What a checkpoint says of itself, read without torch: configuration and card."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from model.catalogue import at_look_ahead, resolve
from model.config import CausalConfig, ConfigError, RoformerConfig

Config = CausalConfig | RoformerConfig

CAUSAL_FORMAT = "stembridge-causal-2"
"""The second one: masks are those of mid and side, in the first they were of left and right."""

FORMATS: dict[str, type[CausalConfig] | type[RoformerConfig]] = {
    CAUSAL_FORMAT: CausalConfig,
    "stembridge-roformer-1": RoformerConfig,
}
"""The format that a file's metadata names, and the kind of configuration that it holds."""


STEM_NAME = re.compile(r"\w[\w .-]{0,39}")
"""Stems name files and control paths, so a stranger's file may not name them as it likes."""
LARGEST_SETTING = 10_000_000


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; one line says which, why, and what to do."""


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says about itself: SPDX licence, where it comes from, and the card as Markdown."""

    licence: str
    source: str
    text: str


def header_metadata(config: Config, card: ModelCard) -> dict[str, str]:
    """The metadata of a checkpoint file; `read_header` reads it back."""
    return {
        "format": next(name for name, kind in FORMATS.items() if isinstance(config, kind)),
        "config": json.dumps(config.to_dict()),
        "licence": card.licence,
        "source": card.source,
        "text": card.text,
    }


def read_header(path: Path) -> tuple[Config, ModelCard]:
    """Configuration and card of a checkpoint file.

    Raises CheckpointError for a file that is missing, is no checkpoint of this project, or has an impossible
    configuration. Threads: any.
    """
    metadata = _metadata(path)
    kind = FORMATS.get(metadata.get("format", ""))
    if kind is None:
        raise CheckpointError(
            f"{path} is not a stembridge checkpoint (format {metadata.get('format')!r:.80}, known are"
            f" {', '.join(FORMATS)}); make one with `stembridge models import` or `stembridge train`"
        )
    card = ModelCard(*(metadata.get(name, "") for name in ("licence", "source", "text")))
    return _config(path, kind, metadata), card


def header_of(model: str) -> tuple[Config, ModelCard]:
    """As `read_header`, of a model by id or path, at the look-ahead that is named with it.

    Raises CatalogueError, CheckpointError, and ConfigError for a look-ahead that it was not trained for.
    """
    config, card = read_header(resolve(model))
    _, look_ahead = at_look_ahead(model)
    return config if look_ahead is None else config.with_look_ahead(look_ahead), card


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; check the path")
    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that is no whole safetensors file."""
    reason = str(error).splitlines()[0]
    return CheckpointError(f"{path} is not a readable safetensors file ({reason:.200}); get it again")


def _config(path: Path, kind: type[CausalConfig] | type[RoformerConfig], metadata: dict[str, str]) -> Config:
    try:
        return kind.from_dict(_modest(json.loads(metadata["config"])))
    except (KeyError, TypeError, AttributeError, RecursionError, ConfigError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} has no usable configuration ({error}); get it again") from None


def _modest(values: dict[str, Any]) -> dict[str, Any]:
    """`values`, if no number is beyond all models and every stem has a plain name. Raises ConfigError."""
    for name, value in values.items():
        if isinstance(value, int | float) and not abs(value) <= LARGEST_SETTING:
            raise ConfigError(f"{name:.40} is beyond all models")
    for stem in values.get("stem_names", ()):
        if not isinstance(stem, str) or not STEM_NAME.fullmatch(stem):
            raise ConfigError(f"{stem!r:.60} is no name for a stem")
    return values
