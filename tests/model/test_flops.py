"""The formula of a window's work against torch's own count, and the published sizes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.config import RoformerConfig
from model.flops import mask_flops, window_flops
from model.layers import ALL
from model.roformer import build
from model.window_framing import PROFILES
from tests.model.builders import random_model
from tests.model.test_roformer import GRID, SHORT
from tests.model.test_windowed import ours

FRAMES = 9


def counted(run: Callable[..., Tensor], *arguments: object) -> int:
    """Torch's count; of attention in plain products, since it knows no work of the CPU's fused kernel."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(*arguments)
    return counter.get_total_flops()


DEEP = replace(SHORT, depth=3, time_depth=2, freq_depth=2, linear_depth=1, mask_depth=3)
CASES = [pytest.param(*case.values, slice(2, 5), id=str(case.id)) for case in GRID]
CASES += [pytest.param(DEEP, asked) for asked in (ALL, slice(2, 3), slice(4, 9), slice(8, None))]


@pytest.mark.parametrize(("config", "asked"), CASES)
def test_the_formula_is_what_torch_counts(config: RoformerConfig, asked: slice) -> None:
    network = build(config).eval()
    spectrum = torch.randn(1, config.channels, config.n_fft // 2 + 1, FRAMES, dtype=torch.complex64)
    assert mask_flops(config, FRAMES, asked) == counted(network.mask, spectrum, asked)


def test_a_window_is_counted_as_it_is_evaluated() -> None:
    config = replace(SHORT, depth=2)
    framing = replace(
        PROFILES["gpu"], window_frames=768, hop_frames=96, look_ahead_frames=128, fade_frames=32
    )
    network = build(config).eval()
    audio = torch.randn(1, config.channels, framing.window_frames)
    assert window_flops(config, framing) == counted(network.part, audio, *framing.contribution)


def blocks_that_hear_the_past(start: int, end: int) -> int:
    """FLOPs of the second and third block of ours that sees the whole window, for a part of the audio."""
    first, third = (random_model(replace(ours().config, depth=depth, past_frames=3)) for depth in (1, 3))
    audio = torch.randn(1, 2, 31 * 32)
    return counted(third.part, audio, start, end) - counted(first.part, audio, start, end)


def test_later_blocks_of_ours_work_only_on_what_a_part_of_the_window_hears() -> None:
    """Of 32 spectral frames the part needs 6; every block after the first hears 2 more for each after it.

    All are even, as the queries of banded attention go two by two.
    """
    whole, part = blocks_that_hear_the_past(0, 31 * 32), blocks_that_hear_the_past(20 * 32, 25 * 32)
    assert part * (32 + 32) == whole * (6 + 2 + 6 + 4)


@pytest.mark.parametrize(
    ("config", "seconds", "gflops"),
    [
        (RoformerConfig(384, 12, stft_hop_frames=441), 8, 5829),
        (RoformerConfig(384, 12, stft_hop_frames=441), 2, 1279),
        (RoformerConfig(512, 12, stft_hop_frames=441), 2, 1998),
        (RoformerConfig(384, 6, "mel", stft_hop_frames=441), 2, 691),
    ],
)
def test_published_shapes_cost_what_is_published(config: RoformerConfig, seconds: int, gflops: int) -> None:
    assert round(mask_flops(config, 100 * seconds + 1) / 1e9) == gflops
    whole = mask_flops(config, 201)
    assert 0.7 < window_flops(config, PROFILES["gpu"]) / whole < 0.93
