"""The project's checkpoints: one safetensors file of weights, configuration and model card. No pickles."""

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.catalogue import BUILTIN, at_look_ahead, resolve
from model.causal import CausalBSRoformer
from model.config import CausalConfig
from model.files import whole
from model.header import CheckpointError, Config, ModelCard, header_metadata, read_header, unreadable
from model.precision import as_small_as_exact
from model.published import PublishedError, configure
from model.roformer import BSRoformer, MelBandRoformer, build

__all__ = ["CheckpointError", "ModelCard", "Network", "load_checkpoint", "load_model", "save_checkpoint"]

Network = CausalBSRoformer | BSRoformer | MelBandRoformer


def save_checkpoint(path: Path, model: Network, card: ModelCard) -> None:
    """Write weights, configuration (stem order and sample rate included) and card.

    The file appears under its name only when it is whole. Raises CheckpointError where it cannot be written.
    Threads: any.
    """
    try:
        with whole(path) as part:
            save_file(_stored(model), part, header_metadata(model.config, card))
            part.chmod(0o644)  # whoever writes it, others play it
    except SafetensorError as error:
        raise CheckpointError(f"cannot write {path} ({error}); is there room on the disk?") from None


def _stored(model: Network) -> dict[str, Tensor]:
    """As little as holds the weights exactly: a causal network's rounded ones take half."""
    state = _apart(model.state_dict())
    for name in model.band_weights if isinstance(model, CausalBSRoformer) else ():
        state[name] = as_small_as_exact(state[name])
    return state


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict; what modules share (rotary frequencies) is there once for each name."""
    apart, seen = {}, set()
    for name, weight in state.items():
        tensor = weight.detach().cpu().contiguous()
        apart[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return apart


def load_checkpoint(path: Path) -> tuple[Network, ModelCard]:
    """The network that the file's configuration names, ready to evaluate, and its card.

    Raises CheckpointError as `read_header`, and for missing, unexpected, misshapen or non-finite weights.
    Threads: any.
    """
    config, card = read_header(path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from None
    return fill(config, weights, path), card


def load_model(model: str = BUILTIN) -> tuple[Network, ModelCard]:
    """Load a model by id or path, at the look-ahead that is named with it (MODEL@FRAMES), or at its own.

    Raises CatalogueError, CheckpointError, and ConfigError for a look-ahead that it was not trained for.
    """
    network, card = load_checkpoint(resolve(model))
    _, look_ahead = at_look_ahead(model)
    if look_ahead is None:
        return network, card
    config = network.config.with_look_ahead(look_ahead)
    assert isinstance(network, CausalBSRoformer) and isinstance(config, CausalConfig)
    return network.reconfigured(config), card


def fill(config: Config, weights: dict[str, Tensor], path: Path) -> Network:
    """The network of a configuration with these weights, ready to evaluate.

    Raises CheckpointError, naming `path`, for missing, unexpected, misshapen or non-finite weights.
    """
    network = _built(config, weights, path)
    _require_matching(path, network.state_dict(), weights)
    network.load_state_dict(weights)
    return network.eval()


def _built(config: Config, weights: dict[str, Tensor], path: Path) -> Network:
    """An empty network; compared with the weights first, so that no file can ask for one of any size."""
    if isinstance(config, CausalConfig):
        if config.least_parameters > sum(weight.numel() for weight in weights.values()):
            raise CheckpointError(f"{path} does not fit its configuration, which names a larger network")
        return CausalBSRoformer(config)
    try:
        configure({name: tuple(weight.shape) for name, weight in weights.items()}, asdict(config))
    except PublishedError as error:
        raise CheckpointError(f"{path} does not fit its configuration: {error}") from None
    return build(config)


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
