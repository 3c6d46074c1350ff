"""A trained causal network in another shape: what it loses matters least, what it gains changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from model.causal import CausalBSRoformer
from model.config import CausalConfig

Weights = dict[str, Tensor]

WRITING = re.compile(r"out\.weight|narrow\.|masks\.outputs|features\.|look_ahead")
"""What adds to features or masks: new parts of it start at 0, so that what they are fed with cannot tell."""


def resized(trained: CausalBSRoformer, config: CausalConfig) -> CausalBSRoformer:
    """A network of `config` that starts where `trained` is.

    Fewer blocks: those in the middle go. Fewer units of mask layers or feed-forwards: those with the smallest
    weights go. More blocks, units or channels (`dim`): nothing changes, but that a layer norm is taken over
    more channels. Bands, heads and fewer channels cannot differ. What is new and is not 0 is drawn from
    torch's generator. Raises ValueError.
    """
    old = trained.config
    if (config.bands, config.heads, config.dim_head) != (old.bands, old.heads, old.dim_head):
        raise ValueError("bands and heads cannot be cut or grown")
    if config.dim < old.dim:
        raise ValueError(f"{old.dim} channels cannot be cut to {config.dim}")
    network = CausalBSRoformer(config)
    source = with_blocks(trained.state_dict(), old.depth, config.depth)
    if config.expansion < old.expansion:
        source = with_narrower_feed_forwards(source, config.dim * config.expansion)
    if config.mask_hidden < old.mask_hidden:
        source = with_fewer_mask_units(source, trained, config.mask_hidden)
    fresh = network.state_dict()
    spread = (old.dim / config.dim) ** 0.5  # of what a layer norm divides by, where new channels are 0
    for name, weight in fresh.items():
        start = torch.zeros_like(weight) if WRITING.search(name) else weight.clone()
        if name in source:
            known = source[name] * (spread if name.endswith("norm.weight") else 1.0)
            put(known, start, config.stems if name.startswith("masks.hidden") else 1)
        fresh[name] = start
    network.load_state_dict(fresh)
    return network


def put(known: Tensor, start: Tensor, stems: int) -> None:
    """Write `known` into the first places along every axis of `start`, whose last one is so many rows."""
    into, known = (torch.unflatten(t, -1, (stems, -1)) for t in (start, known))
    into[tuple(slice(size) for size in known.shape)] = known


def with_blocks(weights: Mapping[str, Tensor], depth: int, wanted: int) -> Weights:
    """Without the blocks in the middle that are too many."""
    extra = max(depth - wanted, 0)
    first = (depth - extra + 1) // 2
    kept = (*range(first), *range(first + extra, depth))
    numbers = {f"blocks.{old}.": f"blocks.{new}." for new, old in enumerate(kept)}
    found = {}
    for name, weight in weights.items():
        block = re.match(r"blocks\.\d+\.", name)
        if block is None:
            found[name] = weight
        elif block[0] in numbers:
            found[numbers[block[0]] + name[block.end() :]] = weight
    return found


def with_narrower_feed_forwards(weights: Weights, units: int) -> Weights:
    found = dict(weights)
    for name in [name for name in weights if name.endswith("widen.weight")]:
        layer = name.removesuffix("widen.weight")
        widen, bias, narrow = (weights[layer + x] for x in ("widen.weight", "widen.bias", "narrow.weight"))
        best = (widen.norm(dim=1) * narrow.norm(dim=0)).topk(units).indices
        found[name], found[f"{layer}widen.bias"] = widen[best], bias[best]
        found[f"{layer}narrow.weight"] = narrow[:, best]
    return found


def with_fewer_mask_units(weights: Weights, trained: CausalBSRoformer, units: int) -> Weights:
    """Of every band and stem those stay whose output weights are largest: what they give is within +-1."""
    found, stems = dict(weights), trained.config.stems
    hidden, bias = (
        torch.unflatten(weights[f"masks.hidden.{x}"], -1, (stems, -1)) for x in ("weight", "bias")
    )
    best = []
    for number, group in enumerate(trained.masks.groups):
        output = weights[name := f"masks.outputs.{number}.weight"]
        places = output.norm(dim=-1).topk(units).indices
        found[name] = output.gather(1, places.unsqueeze(-1).expand(-1, -1, output.shape[-1]))
        best.append(places.view(group.bands, 1, stems, units))
    chosen = torch.cat(best)
    for kind, weight in (("weight", hidden), ("bias", bias)):
        kept = weight.gather(-1, chosen.expand(-1, weight.shape[1], -1, -1))
        found[f"masks.hidden.{kind}"] = kept.flatten(-2)
    return found
