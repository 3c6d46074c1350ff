"""Which separator a name means, at the device's rate."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from model.catalogue import look_ahead_suffix, resolve
from model.config import CausalConfig, RoformerConfig
from model.header import header_of
from model.window_framing import framing_for
from streaming.separator import Separator, SignatureSeparator

if TYPE_CHECKING:
    from model.precision import Precision

DEFAULT_MODEL = "builtin"
SIGNATURE = "signature"
DEFAULT_FRAMING = "gpu"
SIGNATURE_HOP = 441  # frames at 44.1 kHz; whole at every usual rate


class ModelError(ValueError):
    """A model that cannot do what was asked of it; one line says what to do instead."""


@dataclass(frozen=True)
class Execution:
    """How a model is run live. A causal one has its own framing and takes one CPU core, unless told "cuda".

    `framing`: "gpu", "studio" or WINDOW/HOP/LOOK-AHEAD/FADE in frames of the model.
    `graphs` "on": on a GPU, capture the work of a hop once and replay it.
    """

    framing: str = DEFAULT_FRAMING
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"
    graphs: Literal["on", "off"] = "on"


PLAIN = Execution()


@dataclass(frozen=True)
class SeparatorFacts:
    """What the engine must know of a separator before it runs. Frames are at the device's rate."""

    label: str
    stem_names: tuple[str, ...]
    window_frames: int
    hop_frames: int
    latency_frames: int


def open_separator(model: str, rate_hz: int, execution: Execution = PLAIN) -> Separator:
    """The separator called `model` (an id of the catalogue, a file, or `signature`), working at `rate_hz`.

    Errors: CatalogueError, CheckpointError, ConfigError, DeviceError, ModelError, PrecisionError,
    ResamplingError; each one line.
    """
    if model == SIGNATURE:
        return signature_separator(rate_hz)
    from model.causal import CausalBSRoformer  # torch takes over a second to import; signature runs need none
    from model.checkpoint import load_model
    from model.devices import chosen_device
    from model.separators import CausalSeparator

    network = load_model(model)[0]
    _require_possible(model, network.config, execution)
    if isinstance(network, CausalBSRoformer) and network.config.streams:
        device = "cpu" if execution.device == "auto" else chosen_device(execution.device)
        return at_rate(CausalSeparator(network, device, execution.graphs == "on"), rate_hz)
    return at_rate(_windowed(network, execution), rate_hz)


def _windowed(network: Any, execution: Execution) -> Separator:
    """On a CPU it takes all cores but one, which is left to the audio."""
    import torch

    from model.devices import chosen_device
    from model.windowed import WindowedSeparator

    framing = framing_for(network.config, execution.framing)
    device = chosen_device(execution.device)
    if device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    return WindowedSeparator(network, framing, device, execution.precision, execution.graphs == "on")


def _require_possible(model: str, config: CausalConfig | RoformerConfig, execution: Execution) -> None:
    """Errors: ModelError for a mono model, and where one of ours is asked for what only published ones have.

    Of ours, one that sees the whole signal works on windows; the others have a framing of their own.
    """
    if config.channels != 2:
        raise ModelError(f"model {model!r} is mono, the live engine is stereo: use `stembridge separate`")
    if not isinstance(config, CausalConfig):
        return
    if config.streams and execution.framing != DEFAULT_FRAMING:
        raise ModelError(f"model {model!r} is causal: it has its own framing; leave out --framing")
    if execution.precision not in ("auto", "fp32"):
        raise ModelError(f"model {model!r} runs in FP32; leave out --precision")


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
    return model if model == SIGNATURE else f"{resolve(model).resolve()}{look_ahead_suffix(model)}"


def separator_options(model: str, execution: Execution) -> dict[str, Any]:
    """What the separator process is told: the same for the same choice, wherever it is made."""
    return {"model": from_anywhere(model), "execution": asdict(execution)}


def describe(model: str, rate_hz: int, execution: Execution = PLAIN) -> SeparatorFacts:
    """The facts of a separator from its file's header, without torch. Errors as `open_separator`.

    A signature separator of the same framing stands in for the model.
    """
    if model == SIGNATURE:
        framed: Separator = signature_separator(rate_hz)
    else:
        framed = at_rate(_framed_like(model, execution), rate_hz)
    return SeparatorFacts(
        label=model,
        stem_names=framed.stem_names,
        window_frames=framed.window_frames,
        hop_frames=framed.hop_frames,
        latency_frames=framed.latency_frames,
    )


def _framed_like(model: str, execution: Execution) -> SignatureSeparator:
    config, _card = header_of(model)
    _require_possible(model, config, execution)
    if isinstance(config, CausalConfig) and config.streams:
        return _signature_like(config, config.hop_frames, config.latency_frames)
    framing = framing_for(config, execution.framing)
    framed = _signature_like(config, framing.hop_frames, framing.latency_frames)
    framed.window_frames = framing.window_frames
    return framed


def _signature_like(
    config: CausalConfig | RoformerConfig, hop_frames: int, latency_frames: int
) -> SignatureSeparator:
    return SignatureSeparator(
        config.sample_rate_hz, config.stem_names, hop_frames, latency_frames, config.channels
    )
