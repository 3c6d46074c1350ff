"""Models ready to separate whole files, whatever kind they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from host.errors import UserError
from host.models import SIGNATURE
from model.pieces import Audio, Separate, augmented, rechunked
from streaming.separator import STANDARD_STEMS, Separator, SignatureSeparator

if TYPE_CHECKING:
    from model.chunks import Recipe
    from model.precision import Precision

RECIPES = ("msst", "paper")
DEFAULT_OVERLAP = 4


class SeparateError(UserError):
    """Something that cannot be separated as asked."""


@dataclass(frozen=True)
class Quality:
    """How a model that works in chunks is run over a file; `overlap` is of the msst recipe only.

    `threads` 0 leaves their number to torch (1 for a causal model, whose products are too small to share).
    """

    recipe: Literal["msst", "paper"] = "msst"
    overlap: int | None = None
    tta: bool = False
    precision: Precision = "auto"
    batch: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        if self.recipe == "paper" and self.overlap is not None:
            raise SeparateError("The paper's recipe has an overlap of its own: leave out --overlap.")


@dataclass(frozen=True)
class Renderer:
    """A model ready to separate whole files: `separate` takes pieces of `channels` at `sample_rate_hz`.

    A rate of None stands for any.
    """

    stem_names: tuple[str, ...]
    channels: int
    sample_rate_hz: int | None
    separate: Separate


def open_renderer(model: str, device: str, wanted: Sequence[str], quality: Quality | None = None) -> Renderer:
    """Load a model for the `wanted` stems; all where none is named.

    Errors: SeparateError, CatalogueError, CheckpointError, DeviceError, RecipeError.
    """
    quality = quality or Quality()
    whole = _open_signature() if model == SIGNATURE else _open_network(model, device, quality)
    if quality.tta:
        whole = replace(whole, separate=augmented(whole.separate))
    chosen = stem_indices(whole.stem_names, wanted, model)
    names = tuple(whole.stem_names[index] for index in chosen)
    return replace(whole, stem_names=names, separate=_only(chosen, whole.separate))


def stem_indices(names: Sequence[str], wanted: Sequence[str], model: str) -> list[int]:
    """Where the wanted stems stand among the model's; all of them where none is named."""
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise SeparateError(
            f"Model '{model}' has no stem '{unknown[0]}'; choose from its stems: {', '.join(names)}."
        )
    return [names.index(name) for name in dict.fromkeys(wanted or names)]


def _only(chosen: list[int], separate: Separate) -> Separate:
    return lambda pieces: (stems[chosen] for stems in separate(pieces))


def _open_signature() -> Renderer:
    return Renderer(STANDARD_STEMS, 2, None, partial(cranked, SignatureSeparator, 2))


def cranked(opened: Callable[[], Separator], channels: int, pieces: Iterable[Audio]) -> Iterator[Audio]:
    """Crank a fresh live separator over pieces [channels, frames]: its stems, latency removed.

    Threads: one.
    """
    separator = opened()
    hop = separator.hop_frames
    early = separator.latency_frames - hop
    for chunk in rechunked(chain(pieces, [np.zeros((channels, early), np.float32)]), hop):
        missing = hop - chunk.shape[1]
        contribution = np.empty((len(separator.stem_names), channels, hop), np.float32)
        separator.separate(np.pad(chunk, ((0, 0), (0, missing))), contribution)
        yield contribution[..., min(early, hop) : hop - missing]
        early -= min(early, hop)


def _open_network(model: str, device: str, quality: Quality) -> Renderer:
    # Read when torch is loaded: threads that spin while others need the cores took 9 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch  # takes over a second

    from model.causal import CausalBSRoformer
    from model.checkpoint import load_model
    from model.devices import chosen_device, device_errors

    where = torch.device(chosen_device(device))
    with device_errors(where):
        network = load_model(model)[0].to(where)
    config = network.config
    if isinstance(network, CausalBSRoformer):
        separate = _causal(network, model, quality)
    else:
        separate = _chunked(network, quality)
    if quality.threads or isinstance(network, CausalBSRoformer):
        torch.set_num_threads(quality.threads or 1)
    return Renderer(config.stem_names, config.channels, config.sample_rate_hz, separate)


def _causal(network: Any, model: str, quality: Quality) -> Separate:
    from model.offline import separate_causal

    if replace(quality, tta=False, threads=0) not in (Quality(), Quality(precision="fp32")):
        raise SeparateError(
            f"Model '{model}' carries its state through the file in fp32, without chunks:"
            " leave out --recipe, --overlap, --batch and --precision."
        )
    return partial(separate_causal, network)


def _chunked(network: Any, quality: Quality) -> Separate:
    from model.chunks import forward_of, separate_chunks

    forward = forward_of(network, quality.precision)
    recipe = recipe_of(network.config, quality)
    return lambda pieces: separate_chunks(forward, recipe, pieces, quality.batch)


def recipe_of(config: Any, quality: Quality) -> Recipe:
    """The recipe for a model's configuration. Errors: RecipeError."""
    from model.chunks import msst_recipe, paper_recipe

    if quality.recipe == "paper":
        return paper_recipe(config.sample_rate_hz)
    return msst_recipe(config.chunk_frames, quality.overlap or DEFAULT_OVERLAP)
