"""Model names: what `--model` accepts and which checkpoint it means."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
BUILTIN = "builtin"
SUFFIX = ".safetensors"


class CatalogueError(ValueError):
    """A model name that means nothing here; one line lists those that do."""


def known_models() -> dict[str, Path]:
    """Model ids and their checkpoints: the built-in one, where this installation has it."""
    weights = sorted(WEIGHTS.glob(f"*{SUFFIX}"))
    return {BUILTIN: weights[-1]} if weights else {}


def resolve(model: str) -> Path:
    """The checkpoint of a model id, or of a path that ends in .safetensors. Raises CatalogueError."""
    known = known_models()
    if model in known:
        return known[model]
    if model.endswith(SUFFIX):
        return Path(model)
    names = ", ".join(known) or f"none ({BUILTIN!r} has no weights in this installation)"
    raise CatalogueError(f"unknown model {model!r}; known are: {names}; or give a path to a {SUFFIX} file")
