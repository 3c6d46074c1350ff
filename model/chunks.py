"""Whole files through a published model: overlapping chunks, cross-faded or averaged, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

import numpy as np
import torch
from torch import nn

from model.devices import device_errors
from model.pieces import Audio
from model.precision import Precision, dtype_of, lower_products

Forward = Callable[[Audio], Audio]
"""[batch, channels, chunk_frames] -> [batch, stems, channels, chunk_frames]."""

PAPER_CHUNK_S, PAPER_STEP_S = 8, 4


class RecipeError(ValueError):
    """A way of chunking that cannot work, in one line."""


@dataclass(frozen=True)
class Recipe:
    """How a signal is cut and put together again.

    A chunk of `chunk_frames` starts every `step_frames`; its weight rises and falls linearly over
    `fade_frames`, except at the two ends of the signal. A signal longer than two borders is first reflected
    by `border_frames` at both ends.
    """

    chunk_frames: int
    step_frames: int
    fade_frames: int = 0
    border_frames: int = 0

    def window(self, first: bool, last: bool) -> Audio:
        """The weight of a chunk, [chunk_frames]; the very first has no fade-in, a later last no fade-out."""
        window = np.ones(self.chunk_frames, np.float32)
        if not first:
            window[: self.fade_frames] = torch.linspace(0, 1, self.fade_frames)
        if first or not last:
            window[self.chunk_frames - self.fade_frames :] = torch.linspace(1, 0, self.fade_frames)
        return window


def msst_recipe(chunk_frames: int, overlap: int) -> Recipe:
    """The recipe of Music-Source-Separation-Training (`demix` there): every frame is in `overlap` chunks.

    Raises RecipeError.
    """
    if not 1 <= overlap <= chunk_frames:
        raise RecipeError(
            f"An overlap of {overlap} cannot be had of chunks of {chunk_frames} frames; try 2 to 8."
        )
    step = chunk_frames // overlap
    return Recipe(chunk_frames, step, chunk_frames // 10, chunk_frames - step)


def paper_recipe(sample_rate_hz: int) -> Recipe:
    """The recipe of the paper (arXiv 2309.02612): 8 seconds every 4 seconds, averaged."""
    return Recipe(PAPER_CHUNK_S * sample_rate_hz, PAPER_STEP_S * sample_rate_hz)


def forward_of(network: nn.Module, precision: Precision) -> Forward:
    """`network` on arrays, on the device that holds it; its products are put into `precision` in place.

    Raises PrecisionError; `forward` DeviceError. Threads: one at a time.
    """
    device = next(network.parameters()).device
    lower_products(network, dtype_of(precision, device))

    def forward(audio: Audio) -> Audio:
        with torch.inference_mode(), device_errors(device):
            stems: Audio = network(torch.from_numpy(audio).to(device)).float().cpu().numpy()
        return stems

    return forward


def separate_chunks(
    forward: Forward, recipe: Recipe, pieces: Iterable[Audio], batch: int = 1
) -> Iterator[Audio]:
    """Pieces [channels, frames] of a signal into its stems, [stems, channels, frames], piece by piece.

    `batch` chunks go through `forward` at a time. Where no chunk has any weight, and where the network gives
    no number, the stems are 0. Holds a few chunks, whatever the length. Threads: one at a time.
    """
    border, rest = recipe.border_frames, iter(pieces)
    first = next(rest, None)
    if first is None:
        return
    head = _extended(first, rest, 2 * border + 1)
    if border == 0 or head.shape[1] <= 2 * border:
        yield from _overlap_add(forward, recipe, chain([head], rest), batch)
        return
    yield from _without_ends(_overlap_add(forward, recipe, _reflected(head, rest, border), batch), border)


def _extended(held: Audio, rest: Iterator[Audio], frames: int) -> Audio:
    """`held` and what follows it, at least `frames` long where there is as much."""
    parts, count = [held], held.shape[1]
    while count < frames and (piece := next(rest, None)) is not None:
        parts.append(piece)
        count += piece.shape[1]
    return np.concatenate(parts, axis=1)


def _reflected(head: Audio, rest: Iterator[Audio], border: int) -> Iterator[Audio]:
    yield head[:, border:0:-1]
    tail = head[:, :0]
    for piece in chain([head], rest):
        yield piece
        tail = np.concatenate([tail, piece], axis=1)[:, -(border + 1) :]
    yield tail[:, -2::-1]


def _without_ends(pieces: Iterator[Audio], border: int) -> Iterator[Audio]:
    """All but the first and the last `border` frames."""
    to_skip, held = border, None
    for piece in pieces:
        skipped = min(to_skip, piece.shape[-1])
        to_skip -= skipped
        kept = piece[..., skipped:]
        held = kept if held is None else np.concatenate([held, kept], axis=-1)
        if (ready := held.shape[-1] - border) > 0:
            yield held[..., :ready]
            held = held[..., ready:]


def _overlap_add(forward: Forward, recipe: Recipe, pieces: Iterable[Audio], batch: int) -> Iterator[Audio]:
    total, weight = np.zeros(0, np.float32), np.zeros(recipe.chunk_frames, np.float32)
    kept = recipe.chunk_frames - recipe.step_frames
    for index, (chunk, last, stems) in enumerate(_separated(forward, recipe, pieces, batch)):
        frames, window = chunk.shape[1], recipe.window(index == 0, last)
        if index == 0:
            total = np.zeros_like(stems)
        total[..., :frames] += stems[..., :frames] * window[:frames]
        weight[:frames] += window[:frames]
        finished = frames if last else recipe.step_frames
        yield _mean(total[..., :finished], weight[:finished])
        for line in (total, weight):
            line[..., :kept] = line[..., recipe.step_frames :]
            line[..., kept:] = 0


def _mean(total: Audio, weight: Audio) -> Audio:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: Audio = np.nan_to_num(total / weight, nan=0.0, posinf=0.0, neginf=0.0)
    return mean


def _separated(
    forward: Forward, recipe: Recipe, pieces: Iterable[Audio], batch: int
) -> Iterator[tuple[Audio, bool, Audio]]:
    """Every chunk, whether it is the last one, and its stems."""
    chunks = _chunks(recipe, pieces)
    while group := list(islice(chunks, batch)):
        stems = forward(np.stack([_filled(chunk, recipe.chunk_frames) for chunk, _ in group]))
        for (chunk, last), its_stems in zip(group, stems, strict=True):
            yield chunk, last, its_stems


def _chunks(recipe: Recipe, pieces: Iterable[Audio]) -> Iterator[tuple[Audio, bool]]:
    """Chunks as they come, short at the end, and whether no other follows."""
    rest = iter(pieces)
    held = _extended(next(rest), rest, recipe.chunk_frames + 1)  # one more, to see whether it is the last
    while held.size:
        last = held.shape[1] <= recipe.step_frames
        yield held[:, : recipe.chunk_frames], last
        held = _extended(held[:, recipe.step_frames :], rest, recipe.chunk_frames + 1)


def _filled(chunk: Audio, frames: int) -> Audio:
    """A short chunk continued by its reflection; one of half the length or less by silence."""
    mode: Literal["reflect", "constant"] = "reflect" if chunk.shape[1] > frames // 2 else "constant"
    return np.pad(chunk, ((0, 0), (0, frames - chunk.shape[1])), mode)
