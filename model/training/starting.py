"""Starts a training from the weights of another model: one of ours, or a published BS-RoFormer.

Of a causal model every tensor of the same name and shape is taken, so that one profile starts another.

Of a published one the axial transformers are taken, block by block: norms (gamma as weight), queries, gates,
output products and feed-forwards as they are. Its keys and values have one head for each of the queries';
ours share one, which starts as their mean (as in arXiv 2305.13245). What it hears and what it gives out is
different here (magnitudes and levels of other bands in, real shares of the mixture out), so band features and
mask layers start fresh. The time layers, which saw the whole chunk, learn to do with the past.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from model.causal import CausalBSRoformer
from model.checkpoint import load_model
from model.config import CausalConfig, ConfigError, RoformerConfig
from model.header import header_of
from model.training.recipe import TrainingError
from model.training.songs import STEM_NAMES
from model.training.state import TrainingState

_FRAMING = ("hop_frames", "look_ahead_frames", "look_aheads")
_SIZES = ("dim", "depth", "heads", "dim_head")


def configuration_from(init: str, profile: CausalConfig | None) -> CausalConfig:
    """The configuration to train from the model `init`: its sizes in the framing of `profile`.

    Without a profile it is that of a causal `init`, and `live` for a published one. Raises TrainingError
    where the model cannot start one of ours; CatalogueError, CheckpointError.
    """
    config, _ = header_of(init)
    if isinstance(config, RoformerConfig):
        _require_mappable(init, config)
        sizes = {name: getattr(config, name) for name in _SIZES}
        return _fitting(init, profile or CausalConfig(), sizes | {"expansion": 4})
    if config.stem_names != STEM_NAMES or config.sample_rate_hz != CausalConfig().sample_rate_hz:
        raise TrainingError(f"{init}: is trained for other stems or another rate than training songs have")
    framing = {name: getattr(profile, name) for name in _FRAMING} if profile is not None else {}
    return _fitting(init, config, framing)


def _fitting(init: str, config: CausalConfig, changes: dict[str, object]) -> CausalConfig:
    try:
        return replace(config, **changes)  # type: ignore[arg-type]
    except ConfigError as error:
        raise TrainingError(f"{init}: cannot start this profile: {error}") from None


def _require_mappable(init: str, config: RoformerConfig) -> None:
    plain = config.architecture == "bs" and (config.time_depth, config.freq_depth) == (1, 1)
    if not plain or config.linear_depth or config.skip_connection:
        raise TrainingError(
            f"{init}: only plain BS-RoFormers (a time and a frequency layer per block, no skip connection)"
            " can start a causal model; take one of those"
        )


def start_from(state: TrainingState, init: str) -> str:
    """Take what fits of the model `init` as weights and averages; returns what was taken, in one line.

    Raises TrainingError where nothing fits; CatalogueError, CheckpointError.
    """
    network, _ = load_model(init)
    weights = network.state_dict()
    if isinstance(network, CausalBSRoformer):
        settle(weights, network.config, state.model.config)
    else:
        _require_mappable(init, network.config)
        weights = mapped(weights, network.config)
    own = state.model.state_dict()
    taken = {name: w for name, w in weights.items() if name in own and own[name].shape == w.shape}
    if not taken:
        raise TrainingError(f"{init}: nothing of it fits the network to train; choose the profile it is of")
    for model in (state.model, state.ema):
        model.load_state_dict(own | taken)
    return _said(init, taken, own)


def settle(weights: dict[str, Tensor], old: CausalConfig, new: CausalConfig) -> None:
    """Where only one of several look-aheads is kept, what the network was told of it becomes a bias."""
    if not old.look_aheads or new.look_aheads:
        return
    kept = new.look_ahead_frames if new.look_ahead_frames in old.look_aheads else old.look_ahead_frames
    told = weights.pop("look_ahead")[old.look_aheads.index(kept)]
    weights["features.levels.bias"] = weights["features.levels.bias"] + told


def _said(init: str, taken: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    counts = [sum(t.numel() for t in tensors.values()) for tensors in (taken, own)]
    fresh = sorted({name.split(".")[0] for name in own.keys() - taken.keys()})
    parts = f"; fresh: parts of {', '.join(fresh)}" if fresh else ""
    return f"{init}: took {len(taken)} of {len(own)} tensors, {counts[0]:,} of {counts[1]:,} weights{parts}"


def mapped(weights: dict[str, Tensor], config: RoformerConfig) -> dict[str, Tensor]:
    """The tensors of a published BS-RoFormer under the names, and in the shapes, of the causal network's."""
    out: dict[str, Tensor] = {}
    for block in range(config.depth):
        for transformer, place in enumerate(("time", "band")):
            old, new = f"layers.{block}.{transformer}.layers.0.", f"blocks.{block}.{place}_"
            out[f"{new}attention.norm.weight"] = weights[f"{old}0.norm.gamma"]
            out[f"{new}attention.out.weight"] = weights[f"{old}0.to_out.0.weight"]
            out |= _projection(weights, f"{old}0.", f"{new}attention.project.", config)
            out[f"{new}feed_forward.norm.weight"] = weights[f"{old}1.net.0.gamma"]
            for theirs, ours in (("1", "widen"), ("4", "narrow")):
                for kind in ("weight", "bias"):
                    out[f"{new}feed_forward.{ours}.{kind}"] = weights[f"{old}1.net.{theirs}.{kind}"]
    return out


def _projection(weights: dict[str, Tensor], old: str, new: str, config: RoformerConfig) -> dict[str, Tensor]:
    """Queries of all heads, mean key, mean value and gates in one product; only gates have a bias."""
    qkv = weights[f"{old}to_qkv.weight"].view(3, config.heads, config.dim_head, config.dim)
    queries, shared = qkv[0].flatten(0, 1), qkv[1:].mean(1).flatten(0, 1)
    gates, bias = weights[f"{old}to_gates.weight"], weights[f"{old}to_gates.bias"]
    biases = torch.cat([bias.new_zeros(len(queries) + len(shared)), bias])
    return {f"{new}weight": torch.cat([queries, shared, gates]), f"{new}bias": biases}
