"""Separation of a whole signal in big chunks, equal to the live engine's output hop by hop."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from model.causal import CausalBSRoformer
from model.causal_stream import CausalStream

CHUNK_HOPS = 128


def separate(
    model: CausalBSRoformer,
    audio: NDArray[np.float32],
    progress: Callable[[float], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Separate [channels, frames] at the model's rate into [stems, channels, frames], latency removed.

    `progress` is told the part that is done, 0..1, after every chunk. Raises ValueError where the channel
    count is not the model's. Works on the device that holds the model. Threads: any, one call per model at a
    time.
    """
    config = model.config
    if audio.ndim != 2 or audio.shape[0] != config.channels:
        raise ValueError(f"audio has shape {audio.shape}; the model takes [{config.channels}, frames]")
    frames, hop = audio.shape[1], config.hop_frames
    hops = -(-frames // hop) + 1  # one more, to flush the overlap
    padded = torch.zeros(config.channels, hops * hop, device=model.rotations.device)
    padded[:, :frames] = torch.from_numpy(np.ascontiguousarray(audio))
    stems = np.empty((config.stems, config.channels, (hops - 1) * hop), dtype=np.float32)
    stream, end = CausalStream(model.eval(), CHUNK_HOPS), 0
    for chunk in torch.split(padded, CHUNK_HOPS * hop, dim=-1):
        _place(stems, _process(stream, chunk), end - hop)
        end += chunk.shape[-1]
        progress(end / (hops * hop))
    return stems[..., :frames]


def _process(stream: CausalStream, chunk: torch.Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        out: NDArray[np.float32] = stream.process(chunk).cpu().numpy()
    return out


def _place(stems: NDArray[np.float32], piece: NDArray[np.float32], start: int) -> None:
    """Write a piece at `start`; what lies before frame 0 is the model's silence."""
    before = max(0, -start)
    stems[..., start + before : start + piece.shape[-1]] = piece[..., before:]
