import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.overlap_add import OverlapAdd, OverlapAddError

framings = st.integers(1, 65).flatmap(lambda hop: st.tuples(st.just(hop), st.integers(0, hop)))


def render(contributions, hop, fade):
    """All contributions through one OverlapAdd; frame 0 is the first contribution's first frame."""
    stems, channels = contributions[0].shape[:2]
    overlap_add = OverlapAdd(stems, channels, hop, fade)
    hops = []
    for contribution in contributions:
        hops.append(np.empty((stems, channels, hop), np.float32))
        overlap_add.add(contribution, hops[-1])
    return np.concatenate(hops, axis=-1)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(framing=framings, hops=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_contributions_of_one_signal_give_that_signal_to_the_bit(framing, hops, seed):
    hop, fade = framing
    signal = np.random.default_rng(seed).standard_normal((2, 2, hops * hop + fade)).astype(np.float32)
    contributions = [signal[..., k * hop : (k + 1) * hop + fade] for k in range(hops)]
    np.testing.assert_array_equal(render(contributions, hop, fade), signal[..., : hops * hop])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(framing=framings, hops=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_agrees_with_windows_that_are_faded_and_summed(framing, hops, seed):
    hop, fade = framing
    rng = np.random.default_rng(seed)
    contributions = rng.standard_normal((hops, 2, 1, hop + fade)).astype(np.float32)
    summed = np.zeros((2, 1, hops * hop + fade))
    for k, contribution in enumerate(contributions):
        gain = np.ones(hop + fade)
        for i in range(fade):
            rising = (i + 0.5) / fade
            gain[i] *= rising if k > 0 else 1.0
            gain[hop + i] *= 1.0 - rising
        summed[..., k * hop : (k + 1) * hop + fade] += gain * contribution
    np.testing.assert_allclose(render(contributions, hop, fade), summed[..., : hops * hop], atol=2e-6)


def test_no_fade_copies():
    rng = np.random.default_rng(3)
    contributions = rng.standard_normal((3, 4, 2, 128)).astype(np.float32)
    np.testing.assert_array_equal(render(contributions, 128, 0), np.concatenate(contributions, axis=-1))


def test_reset_forgets_the_tail_even_where_it_is_not_finite():
    overlap_add = OverlapAdd(1, 1, 4, 2)
    out = np.empty((1, 1, 4), np.float32)
    overlap_add.add(np.full((1, 1, 6), np.nan, np.float32), out)
    overlap_add.reset()
    ones = np.ones((1, 1, 6), np.float32)
    overlap_add.add(ones, out)
    np.testing.assert_array_equal(out, ones[..., :4])


def test_the_contribution_is_left_alone():
    overlap_add = OverlapAdd(1, 1, 4, 4)
    out = np.empty((1, 1, 4), np.float32)
    for k in range(2):
        contribution = np.full((1, 1, 8), float(k), np.float32)
        overlap_add.add(contribution, out)
        assert (contribution == k).all()


@pytest.mark.parametrize("fade", [-1, 65])
def test_a_fade_that_the_hop_cannot_hold_is_refused(fade):
    with pytest.raises(OverlapAddError, match="0 to the hop of 64"):
        OverlapAdd(1, 1, 64, fade)
