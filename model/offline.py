"""Separation of whole signals by the causal model in big chunks, equal to the live engine hop by hop."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
import torch

from model.causal import CausalBSRoformer
from model.causal_stream import CausalStream
from model.chunks import forward_of, msst_recipe, separate_chunks
from model.pieces import Audio, gathered, rechunked

CHUNK_HOPS = 128
WHOLE_OVERLAP = 2
"""In how many pieces every frame is, where the network sees whole pieces."""


def separate_causal(model: CausalBSRoformer, pieces: Iterable[Audio]) -> Iterator[Audio]:
    """Pieces [channels, frames] into pieces [stems, channels, frames], as many frames, latency removed.

    A network that sees the whole signal is given overlapping pieces of twice the past of its other layers:
    more is not trained for. Raises ValueError where the channel count is not the model's. Works on the
    device that holds the model. Threads: any, one call per model at a time.
    """
    config, checked = model.config, _checked(pieces, model.config.channels)
    if config.streams:
        return _streamed(model.eval(), checked)
    recipe = msst_recipe(2 * config.past_frames * config.hop_frames, WHOLE_OVERLAP)
    return separate_chunks(forward_of(model.eval(), "fp32"), recipe, checked)


def _streamed(model: CausalBSRoformer, pieces: Iterable[Audio]) -> Iterator[Audio]:
    config = model.config
    hop, device = config.hop_frames, next(model.parameters()).device
    stream, early = CausalStream(model, CHUNK_HOPS), config.latency_frames - hop
    flush = np.zeros((config.channels, early), np.float32)
    for chunk in rechunked(chain(pieces, [flush]), CHUNK_HOPS * hop):
        missing = -chunk.shape[1] % hop
        whole = torch.from_numpy(np.pad(chunk, ((0, 0), (0, missing)))).to(device)
        stems = _process(stream, whole)
        before = min(early, stems.shape[-1])
        yield stems[..., before : stems.shape[-1] - missing]
        early -= before  # only the first frames lie before the signal


def _checked(pieces: Iterable[Audio], channels: int) -> Iterator[Audio]:
    for piece in pieces:
        if piece.ndim != 2 or piece.shape[0] != channels:
            raise ValueError(f"audio has shape {piece.shape}; the model takes [{channels}, frames]")
        yield piece


def _process(stream: CausalStream, chunk: torch.Tensor) -> Audio:
    with torch.inference_mode():
        out: Audio = stream.process(chunk).cpu().numpy()
    return out


def separate(
    model: CausalBSRoformer, audio: Audio, progress: Callable[[float], None] = lambda done: None
) -> Audio:
    """A whole signal [channels, frames] at once: [stems, channels, frames]. Errors as `separate_causal`.

    `progress` is told the part that is done, 0..1, after every chunk.
    """
    stems = np.empty((model.config.stems, *audio.shape), np.float32)
    return gathered(separate_causal(model, [audio]), stems, progress)
