"""Which separator a name means, at the device's rate."""

from __future__ import annotations

from dataclasses import dataclass

from model.catalogue import resolve
from model.config import CausalConfig
from model.header import read_header
from streaming.separator import Separator, SignatureSeparator

DEFAULT_MODEL = "builtin"
SIGNATURE = "signature"
SIGNATURE_HOP = 441  # frames at 44.1 kHz; whole at every usual rate


class ModelError(ValueError):
    """A model that cannot do what was asked of it; one line says what to do instead."""


@dataclass(frozen=True)
class SeparatorFacts:
    """What the engine must know of a separator before it runs. Frames are at the device's rate."""

    label: str
    stem_names: tuple[str, ...]
    window_frames: int
    hop_frames: int
    latency_frames: int


def open_separator(model: str, rate_hz: int) -> Separator:
    """The separator called `model` (an id of the catalogue, a file, or `signature`), working at `rate_hz`.

    Errors: CatalogueError, CheckpointError, ModelError, ResamplingError; each one line.
    """
    if model == SIGNATURE:
        return signature_separator(rate_hz)
    from model.causal import CausalBSRoformer  # torch takes over a second to import; signature runs need none
    from model.checkpoint import load_model
    from model.separators import CausalSeparator

    network = load_model(model)[0]
    if not isinstance(network, CausalBSRoformer):
        raise _hears_ahead(model)
    return at_rate(CausalSeparator(network), rate_hz)


def _hears_ahead(model: str) -> ModelError:
    return ModelError(
        f"model {model!r} needs the sound that is still to come: use it with"
        f" `stembridge separate --model {model}`; live runs take causal models such as 'builtin'"
    )


def at_rate(separator: Separator, rate_hz: int) -> Separator:
    """`separator` itself, or resampled to `rate_hz`. Errors: ResamplingError."""
    if rate_hz == separator.sample_rate_hz:
        return separator
    from host.resampling import ResampledSeparator

    return ResampledSeparator(separator, rate_hz)


def signature_separator(rate_hz: int) -> SignatureSeparator:
    """The test separator with a hop of 10 ms where that is whole, else of 441 frames."""
    hop = rate_hz // 100 if rate_hz % 100 == 0 else SIGNATURE_HOP
    return SignatureSeparator(rate_hz, hop_frames=hop, latency_frames=2 * hop)


def from_anywhere(model: str) -> str:
    """The same model named so that a process in another folder finds it."""
    return model if model == SIGNATURE else str(resolve(model).resolve())


def describe(model: str, rate_hz: int) -> SeparatorFacts:
    """The facts of a separator from its file's header, without torch. Errors as `open_separator`.

    A signature separator of the same framing stands in for the model.
    """
    framed = signature_separator(rate_hz) if model == SIGNATURE else at_rate(_framed_like(model), rate_hz)
    return SeparatorFacts(
        label=model,
        stem_names=framed.stem_names,
        window_frames=framed.window_frames,
        hop_frames=framed.hop_frames,
        latency_frames=framed.latency_frames,
    )


def _framed_like(model: str) -> SignatureSeparator:
    config, _card = read_header(resolve(model))
    if not isinstance(config, CausalConfig):
        raise _hears_ahead(model)
    return SignatureSeparator(
        config.sample_rate_hz, config.stem_names, config.hop_frames, config.latency_frames, config.channels
    )
