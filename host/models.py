"""Which separator a name means, at the device's rate."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.separator import Separator, SignatureSeparator

SIGNATURE = "signature"
SIGNATURE_HOP = 441  # frames at 44.1 kHz; whole at every usual rate


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

    Errors: CatalogueError, CheckpointError, ResamplingError; each one line.
    """
    if model == SIGNATURE:
        return signature_separator(rate_hz)
    # torch takes over a second to import; signature runs need none
    from host.resampling import ResampledSeparator
    from model.catalogue import load_model
    from model.separators import CausalSeparator

    separator = CausalSeparator(load_model(model)[0])
    return separator if rate_hz == separator.sample_rate_hz else ResampledSeparator(separator, rate_hz)


def signature_separator(rate_hz: int) -> SignatureSeparator:
    """The test separator with a hop of 10 ms where that is whole, else of 441 frames."""
    hop = rate_hz // 100 if rate_hz % 100 == 0 else SIGNATURE_HOP
    return SignatureSeparator(rate_hz, hop_frames=hop, latency_frames=2 * hop)


def describe(model: str, rate_hz: int) -> SeparatorFacts:
    """The facts of a separator without warming it up. Errors as `open_separator`."""
    separator = open_separator(model, rate_hz)
    try:
        return SeparatorFacts(
            label=model,
            stem_names=separator.stem_names,
            window_frames=separator.window_frames,
            hop_frames=separator.hop_frames,
            latency_frames=separator.latency_frames,
        )
    finally:
        separator.close()
