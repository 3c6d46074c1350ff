"""How far a published network in lower precision is from itself in float32."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from host.bench_rows import Figures
from host.hop_times import for_streams, room_for_stems
from model.precision import lower_products
from model.roformer import Roformer
from model.window_framing import WindowFraming
from model.windowed import WindowedSeparator
from streaming.separator import Audio

MOST_DB = 150.0
"""Told of what is the same to the last digit of float32, too."""


def lowered(exact: Roformer, dtype: torch.dtype = torch.float16) -> Roformer:
    """A copy in lower precision."""
    network = copy.deepcopy(exact)
    lower_products(network, dtype)
    return network


@torch.inference_mode()
def precision_errors(exact: Roformer, half: Roformer, framing: WindowFraming, audio: Tensor) -> Figures:
    """Of masks of the same spectrum, and of what a hop gives out, in `half` and (`bf16_`) in bfloat16.

    `audio` [1, channels, window_frames]. Threads: one at a time.
    """
    spectrum = exact.stft(audio)

    def told(network: Roformer) -> tuple[Tensor, Tensor]:
        return network.mask(spectrum), network.part(audio, *framing.contribution)

    expected = told(exact)
    coarse = errors(told(lowered(exact, torch.bfloat16)), expected)
    return errors(told(half), expected) | {f"bf16_{name}": value for name, value in coarse.items()}


@torch.inference_mode()
def live_errors(
    separator: WindowedSeparator, exact: Roformer, framing: WindowFraming, audio: Tensor
) -> Figures:
    """`live_db`: what comes out of a warm separator, through its buffers and its graph, against float32.

    Raises RuntimeError where silence or a square wave at full scale makes something that is not finite.
    Threads: that of `warm_up`.
    """
    window = audio[0].cpu().numpy()
    for sound, name in ((0 * window, "silence"), (np.sign(window), "a square wave at full scale")):
        if not np.isfinite(_heard(separator, sound)).all():
            raise RuntimeError(f"what comes out is not finite for {name}")
    expected = exact.part(audio, *framing.contribution).cpu()
    return {"live_db": decibels(torch.from_numpy(_heard(separator, window)), expected)}


def _heard(separator: WindowedSeparator, window: Audio) -> Audio:
    """Stems [streams, stems, channels, frames]."""
    stems = room_for_stems(separator)
    separator.separate(for_streams(separator, window), stems)
    return stems.reshape(-1, *stems.shape[-3:])


def errors(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> Figures:
    """Of masks and of what comes out."""
    return mask_error(found[0], exact[0]) | {"output_db": decibels(found[1], exact[1])}


def mask_error(found: Tensor, exact: Tensor) -> Figures:
    """Rms of the difference, and the same over the rms of the exact mask."""
    error, level = (float(x.abs().square().mean().sqrt()) for x in (found - exact, exact))
    return {"mask_error_rms": error, "mask_error_relative": error / level}


def decibels(found: Tensor, exact: Tensor) -> float:
    """Signal to error, at most MOST_DB; `found` [n, ...] are tries of the same `exact` [1, ...]."""
    power = exact.square().sum() * (found.numel() / exact.numel())
    error = (found - exact).square().sum().clamp_min(power * 10 ** (-MOST_DB / 10))
    return float(10 * torch.log10(power / error))
