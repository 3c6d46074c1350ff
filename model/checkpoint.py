"""The project's checkpoints: one safetensors file of weights, configuration and model card. No pickles."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.causal import CausalBSRoformer
from model.config import CausalConfig, ConfigError

FORMAT = "stembridge-causal-1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; one line says which, why, and what to do."""


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says about itself: SPDX licence, where it comes from, and the card as Markdown."""

    licence: str
    source: str
    text: str


def save_checkpoint(path: Path, model: CausalBSRoformer, card: ModelCard) -> None:
    """Write weights, configuration (stem order and sample rate included) and card.

    The file appears under its name only when it is whole. Threads: any.
    """
    metadata = {"format": FORMAT, "config": json.dumps(model.config.to_dict()), **asdict(card)}
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    save_file(weights, partial, metadata)
    partial.replace(path)


def load_checkpoint(path: Path) -> tuple[CausalBSRoformer, ModelCard]:
    """The model, ready to evaluate, and its card.

    Raises CheckpointError for a file that is missing, is no checkpoint of this project, has missing,
    unexpected, misshapen or non-finite weights, or an impossible configuration. Threads: any.
    """
    metadata, weights = _read(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a stembridge checkpoint (format {metadata.get('format')!r}, wanted {FORMAT!r});"
            " make one with `stembridge train`"
        )
    model = CausalBSRoformer(_config(path, metadata))
    _require_matching(path, model.state_dict(), weights)
    model.load_state_dict(weights)
    card = ModelCard(*(metadata.get(name, "") for name in ("licence", "source", "text")))
    return model.eval(), card


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a readable safetensors file ({reason}); get it again") from None


def _config(path: Path, metadata: dict[str, str]) -> CausalConfig:
    try:
        return CausalConfig.from_dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, AttributeError, ConfigError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} has no usable configuration ({error}); get it again") from None


def _require_matching(path: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    problems = [
        *(f"missing {name}" for name in sorted(expected.keys() - found.keys())),
        *(f"unexpected {name}" for name in sorted(found.keys() - expected.keys())),
        *(_problem(name, expected[name], found[name]) for name in sorted(expected.keys() & found.keys())),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise CheckpointError(f"{path} does not fit its configuration: {problems[0]}{more}; get it again")


def _problem(name: str, expected: Tensor, found: Tensor) -> str:
    if found.shape != expected.shape:
        return f"{name} has shape {list(found.shape)}, not {list(expected.shape)}"
    if not found.is_floating_point():
        return f"{name} holds {found.dtype}, not floating point"
    if not torch.isfinite(found).all():
        return f"{name} holds NaN or infinity"
    return ""
