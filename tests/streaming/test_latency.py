"""The buffering formulas against a stream simulated frame by frame."""

import json
import math
from itertools import product

import numpy as np
import pytest

from streaming.framing import WindowedFraming
from streaming.latency import (
    LatencyBudget,
    LatencyError,
    LatencyItem,
    buffering_frames,
    buffering_frames_varying,
)

HOPS = [1, 2, 3, 7, 16, 21, 64, 65]
BLOCKS = [1, 2, 3, 8, 21, 63, 64, 65, 128]


def missing_frames(blocks, hop, lookahead, fade, allowance, latency, *, ties_are_late=False):
    """Run a device over `blocks`; how many stem frames were not there when the callback read them.

    A callback happens when its block begins. It writes the block's dry frames, then reads the stems
    `latency` frames back. The worker starts a hop when its last frame is written, and is done `allowance`
    frames later. Its contribution is [e - lookahead - fade - hop, e - lookahead), finished but for the last
    `fade` frames.
    """
    starts = np.cumsum([0, *blocks[:-1]])
    callback_at = np.repeat(starts, blocks)
    frames = len(callback_at)
    done_at = np.full(frames, np.inf)
    for end in range(hop, frames + 1, hop):
        first = max(0, end - lookahead - fade - hop)
        finished = max(0, end - lookahead - fade)
        done_at[first:finished] = callback_at[end - 1] + allowance
    last = frames - lookahead - fade - 2 * hop
    stems = np.arange(max(0, last))
    stems = stems[stems + latency < frames]
    assert len(stems) > 0
    read_at = callback_at[stems + latency]
    late = done_at[stems] >= read_at if ties_are_late else done_at[stems] > read_at
    return int(late.sum())


def constant_blocks(block, hop, spare):
    return [block] * ((3 * math.lcm(block, hop) + spare) // block + 3)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("hop", HOPS)
def test_buffering_is_enough_and_least_for_a_constant_block(block, hop):
    for allowance in [0, 1, block - 1, block, block + 1, 100]:
        for lookahead, fade in [(0, 0), (hop, 0), (2 * hop + 1, hop)]:
            algorithmic = lookahead + fade + hop
            latency = algorithmic + buffering_frames(block, hop, allowance)
            blocks = constant_blocks(block, hop, 2 * algorithmic + latency + allowance + 2 * block)
            assert missing_frames(blocks, hop, lookahead, fade, allowance, latency) == 0
            assert missing_frames(blocks, hop, lookahead, fade, allowance, latency - 1) > 0


def varying_blocks(rng, max_block, frames):
    """Random sizes; the second half goes between the extremes, which is the hardest."""
    sizes = [*rng.integers(1, max_block + 1, frames // max_block), *rng.choice([1, max_block], frames // 2)]
    return [int(size) for size in sizes]


@pytest.mark.parametrize("ties_are_late", [False, True])
@pytest.mark.parametrize("max_block", [1, 2, 3, 8, 64, 65])
@pytest.mark.parametrize("hop", [1, 3, 21, 64, 65])
def test_buffering_is_enough_for_blocks_that_vary(max_block, hop, ties_are_late):
    rng = np.random.default_rng(max_block * 1000 + hop)
    for allowance, (lookahead, fade) in product([0, 1, 7, max_block, 100], [(0, 0), (2 * hop + 1, hop)]):
        latency = lookahead + fade + hop + buffering_frames_varying(max_block, hop, allowance)
        blocks = varying_blocks(rng, max_block, 4000)
        assert (
            missing_frames(blocks, hop, lookahead, fade, allowance, latency, ties_are_late=ties_are_late) == 0
        )


@pytest.mark.parametrize("max_block", [1, 2, 3, 8])
@pytest.mark.parametrize("hop", [1, 2, 3, 7])
@pytest.mark.parametrize("allowance", [0, 1, 2, 9])
def test_one_frame_less_is_not_enough_for_blocks_that_vary(max_block, hop, allowance):
    """Least where a hop that is done at the very instant of a callback comes too late for it."""
    latency = hop + buffering_frames_varying(max_block, hop, allowance)
    rng = np.random.default_rng(5)
    blocks = varying_blocks(rng, max_block, 20_000)
    assert missing_frames(blocks, hop, 0, 0, allowance, latency - 1, ties_are_late=True) > 0


def test_a_varying_device_that_happens_to_be_constant_is_covered():
    for block, hop, allowance in product(BLOCKS, HOPS, range(0, 200, 13)):
        varying = buffering_frames_varying(block, hop, allowance)
        assert varying >= buffering_frames(block, hop, allowance)


@pytest.mark.parametrize(("hop", "lookahead"), [(441, 441), (588, 1176)])
def test_a_causal_model_and_buffering_add_up(hop, lookahead):
    # A call that takes `hop` frames finishes what a window with this look-ahead and no fade would.
    block, allowance = 128, 200
    latency = hop + lookahead + buffering_frames(block, hop, allowance)
    blocks = constant_blocks(block, hop, 2 * latency)
    assert missing_frames(blocks, hop, lookahead, 0, allowance, latency) == 0
    assert missing_frames(blocks, hop, lookahead, 0, allowance, latency - 1) > 0


def test_windowed_framing_and_buffering_add_up():
    framing = WindowedFraming(88200, 1764, 2205, 441, 441)
    latency = framing.latency_frames + buffering_frames(512, 1764, 1000)
    blocks = constant_blocks(512, 1764, 2 * latency)
    assert missing_frames(blocks, 1764, 2205, 441, 1000, latency) == 0
    assert missing_frames(blocks, 1764, 2205, 441, 1000, latency - 1) > 0


BUDGET = LatencyBudget(
    44100, (LatencyItem("model", 882, "synthesis window"), LatencyItem("buffering", 127, "blocks of 128"))
)


def test_the_budget_adds_up_and_reports():
    assert BUDGET.total_frames == 1009
    assert BUDGET.total_ms == pytest.approx(22.8798, abs=1e-4)
    rows = list(BUDGET.rows())
    assert [row[:2] for row in rows] == [("model", 882), ("buffering", 127), ("total", 1009)]
    told = json.loads(json.dumps(BUDGET.as_dict()))
    assert told["latency_frames"] == sum(item["frames"] for item in told["items"]) == 1009


def test_a_reserve_fills_up_to_a_total():
    padded = BUDGET.padded_to(1323)
    assert padded.total_frames == 1323
    assert padded.items[-1].name == "reserve" and padded.items[-1].frames == 314
    assert BUDGET.padded_to(1009).total_frames == 1009


def test_a_reserve_that_is_too_small_is_refused():
    with pytest.raises(LatencyError, match="the latency is 1009 frames and 1008 are reserved"):
        BUDGET.padded_to(1008)
