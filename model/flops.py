"""Work of a published RoFormer: the products that a window cannot do without, from its configuration."""

import itertools

from model.config import RoformerConfig
from model.layers import ALL
from model.stft import CentredSTFT
from model.window_framing import WindowFraming

FEED_FORWARD_EXPANSION = 4


def mask_flops(config: RoformerConfig, frames: int, asked: slice = ALL) -> int:
    """Floating-point operations of `Roformer.mask` for one signal of so many spectral frames.

    Two for every multiply-add of a linear layer or of attention; what only frames not `asked` for need is
    left out, as there. The same number as torch.utils.flop_counter gives. Threads: any.
    """
    bands, few = len(config.band_bins), len(range(frames)[asked])
    time, freq = config.time_depth * [frames], config.freq_depth * [bands]
    work = frames * _values(config) * config.dim
    for block in range(1, config.depth + 1):
        kept = few if block == config.depth else frames
        work += config.linear_depth * _linear_layer(config, frames * bands)
        work += bands * sum(_layer(config, length, length) for length in time[:-1])
        work += bands * _layer(config, frames, kept)
        work += kept * sum(_layer(config, length, length) for length in freq)
    return 2 * (work + config.stems * few * _mask_mlps(config))


def window_flops(config: RoformerConfig, framing: WindowFraming) -> int:
    """As `mask_flops`, of what one hop of `WindowedSeparator` evaluates."""
    stft = CentredSTFT(config.n_fft, config.stft_hop_frames, config.win_frames)
    frames = framing.window_frames // config.stft_hop_frames + 1
    return mask_flops(config, frames, stft.covering(*framing.contribution, frames))


def _values(config: RoformerConfig) -> int:
    """Real numbers of one spectral frame, counted once per band that holds them."""
    return 2 * config.channels * sum(len(bins) for bins in config.band_bins)


def _layer(config: RoformerConfig, length: int, asked: int) -> int:
    """Multiply-adds of attention over `length` positions and of the feed-forward, for queries at `asked`."""
    inner = config.heads * config.dim_head
    keys_values = 2 * length * config.dim * inner
    queries_gates_out = asked * config.dim * (2 * inner + config.heads)
    scores = 2 * asked * length * inner
    feed_forward = 2 * FEED_FORWARD_EXPANSION * asked * config.dim**2
    return keys_values + queries_gates_out + scores + feed_forward


def _linear_layer(config: RoformerConfig, positions: int) -> int:
    """As `_layer`, of attention between features."""
    inner = config.heads * config.dim_head
    return positions * (
        4 * config.dim * inner + 2 * inner * config.dim_head + 2 * FEED_FORWARD_EXPANSION * config.dim**2
    )


def _mask_mlps(config: RoformerConfig) -> int:
    """Multiply-adds of one stem's masks for one spectral frame."""
    hidden = [config.dim * config.expansion] * (config.mask_linears - 1)
    inside = sum(a * b for a, b in itertools.pairwise([config.dim, *hidden]))
    last = [config.dim, *hidden][-1]
    return len(config.band_bins) * inside + 2 * _values(config) * last
