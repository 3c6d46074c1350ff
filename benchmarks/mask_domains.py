"""Masks of left and right, or of mid and side: python -m benchmarks.mask_domains --audio LIB.

How well held-out songs' vocals can be had by the best real gains from 0 to 1 that are the same for all bins
of a band (of the built-in models) and for some STFT frames on end: the coarser, the less a mask has to know.
Prints a table in Markdown: SI-SDR of whole songs in dB.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional as F

from host.errors import guarded
from model.bands import CAUSAL_BANDS
from model.baselines import HOP_FRAMES, WINDOW_FRAMES
from model.metrics import si_sdr_db
from model.stft import CentredSTFT, mid_side
from model.training.arguments import OneLineParser, tell
from model.training.evaluate import HeldOutSong, held_out_songs
from model.training.score_tables import markdown_line

STFT = CentredSTFT(WINDOW_FRAMES, HOP_FRAMES, WINDOW_FRAMES)
FRAMES_ON_END = (1, 10, 100)
DOMAINS: dict[str, Callable[[Tensor], Tensor]] = {
    "left, right": lambda audio: audio,
    "mid, side": lambda audio: mid_side(audio, 0),
}
"""There and, as each is its own inverse, back."""


def best_masked(mixture: Tensor, voice: Tensor, frames: int) -> Tensor:
    """The mixture [channels, frames] under the gains that come closest to the voice in the least squares."""
    mixed, sung = STFT(mixture), STFT(voice)
    common, energy = ((mixed.conj() * spectrum).real for spectrum in (sung, mixed))
    gains = (_summed(common, frames) / _summed(energy, frames).clamp_min(1e-12)).clamp(0, 1)
    return STFT.inverse(mixed * _spread(gains, frames)[..., : mixed.shape[-1]], mixture.shape[-1])


def _summed(x: Tensor, frames: int) -> Tensor:
    """[channels, bins, spectral frames] -> [channels, bands, that by `frames`], the last one filled up."""
    padded = F.pad(x, (0, -x.shape[-1] % frames))
    in_time = torch.unflatten(padded, -1, (-1, frames)).sum(-1)
    return torch.stack([band.sum(1) for band in torch.split(in_time, list(CAUSAL_BANDS), dim=1)], dim=1)


def _spread(gains: Tensor, frames: int) -> Tensor:
    return gains.repeat_interleave(torch.tensor(CAUSAL_BANDS), dim=1).repeat_interleave(frames, dim=2)


@torch.inference_mode()
def scores_of(song: HeldOutSong) -> list[float]:
    """SI-SDR of the vocals in dB, for every count of frames in every domain."""
    mixture, voice = torch.from_numpy(song.mixture), torch.from_numpy(song.stems[0])
    estimates = (
        turned(best_masked(turned(mixture), turned(voice), frames))
        for frames, turned in product(FRAMES_ON_END, DOMAINS.values())
    )
    return [float(si_sdr_db(estimate.numpy(), song.stems[0])) for estimate in estimates]


@guarded
def main() -> None:
    parser = OneLineParser(prog="python -m benchmarks.mask_domains", description=__doc__)
    parser.add_argument("--audio", type=Path, help="library of recordings; without, synthesised songs alone")
    arguments = parser.parse_args()
    with TemporaryDirectory() as cache:
        songs = held_out_songs(arguments.audio, Path(cache), tell)
    heads = [f"{name}: {frames}" for frames, name in product(FRAMES_ON_END, DOMAINS)]
    print(markdown_line(["song", *heads]))
    print(markdown_line(["---", *["--:"] * len(heads)]))
    for song in songs:
        print(markdown_line([song.name, *(f"{score:.1f}" for score in scores_of(song))]))


if __name__ == "__main__":
    main()
