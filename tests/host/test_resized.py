"""A network cut or grown: what was added changes nothing, what was left out is what mattered least."""

import dataclasses
import re

import pytest
import torch

from benchmarks.resized import resized
from tests.model.builders import SMALL_LIVE, noise, random_model

AUDIO = torch.from_numpy(noise(2, 20 * 441)).unsqueeze(0)


def changed(**sizes):
    return dataclasses.replace(SMALL_LIVE, **sizes)


def stems(network):
    with torch.no_grad():
        return network(AUDIO)


def half_idle():
    """The first half of all units, and the block in the middle, do nothing."""
    network = random_model(changed(depth=3))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if re.match(r"blocks\.1\..*(out\.weight|narrow)", name):
                weight.zero_()
            elif re.search(r"narrow\.weight|masks\.outputs.*weight", name):
                weight[:, : weight.shape[1] // 2] = 0
    return network


@pytest.mark.parametrize("sizes", [{}, {"depth": 5}, {"mask_hidden": 20}, {"expansion": 6}, {"depth": 4}])
def test_what_is_added_changes_nothing(sizes) -> None:
    network = random_model()
    grown = resized(network, changed(**sizes))
    torch.testing.assert_close(stems(grown), stems(network), rtol=0, atol=1e-6)


def test_what_is_added_learns() -> None:
    grown = resized(random_model(), changed(depth=3, mask_hidden=20, expansion=6, dim=24))
    grown(AUDIO).square().sum().backward()
    new = {
        "blocks.2.time_attention.out.weight": ...,
        "masks.outputs.0.weight": (slice(None), slice(8, None)),
        "blocks.0.time_feed_forward.narrow.weight": (slice(16), slice(64, None)),
        "blocks.0.band_attention.out.weight": slice(16, None),
    }
    for name, place in new.items():
        parameter = grown.get_parameter(name)
        assert not parameter[place].any(), name
        assert parameter.grad[place].abs().max() > 0, name


def test_a_layer_norm_over_more_channels_is_all_that_changes() -> None:
    network = random_model()
    found, before = stems(resized(network, changed(dim=24))), stems(network)
    assert 0 < (found - before).norm() < 0.1 * before.norm()


@pytest.mark.parametrize("sizes", [{"depth": 2}, {"mask_hidden": 4}, {"expansion": 2}])
def test_what_does_nothing_is_left_out(sizes) -> None:
    network = half_idle()
    cut = resized(network, changed(**{"depth": 3, **sizes}))
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in network.parameters())
    torch.testing.assert_close(stems(cut), stems(network), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"dim": 8}, "16 channels cannot be cut to 8"),
        ({"heads": 4}, "bands and heads"),
        ({"bands": (1, 1024)}, "bands"),
    ],
)
def test_what_cannot_be_cut_is_refused(sizes, said) -> None:
    with pytest.raises(ValueError, match=said):
        resized(random_model(), changed(**sizes))
