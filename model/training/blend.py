"""Blends weights, and softens masks: python -m model.training.blend MODEL[@FRAMES][=SHARE] ... --out FILE.

The models that ship are made so of what `stembridge train` leaves. Means of the weights before and after a
training lie between both in what they are good at; shares below 0 carry over what a training taught: in
`stage=1 after@0=1 before@0=-1` it goes from one network to another that began at the same weights. Softer
masks are less sure of themselves: what goes into their softmax over the stems is divided by a number.
@FRAMES chooses one of several look-aheads, as everywhere; --profile names the framing of the result.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from model.catalogue import SUFFIX, CatalogueError
from model.causal import CausalBSRoformer
from model.checkpoint import CheckpointError, ModelCard, load_model, save_checkpoint
from model.config import CausalConfig, ConfigError
from model.profiles import TRAINABLE
from model.training.arguments import OneLineParser, run_tool, within
from model.training.recipe import TrainingError
from model.training.starting import configuration_from, settle

Part = tuple[str, float]
"""A model, by id or path, and its share."""


class BlendError(ValueError):
    """Weights that cannot be blended: one line with what, why and what to do."""


EXPECTED = (BlendError, CatalogueError, CheckpointError, ConfigError, TrainingError)
"""What a user can put right."""


def blended(parts: Sequence[Part], profile: CausalConfig | None = None) -> CausalBSRoformer:
    """The sum of the parts' weights, each times its share, in the framing of `profile` or of the first.

    Raises BlendError where shares do not add up to 1 or networks differ; CatalogueError, CheckpointError,
    ConfigError and TrainingError as `configuration_from`.
    """
    if not math.isclose(sum(share for _, share in parts), 1.0, abs_tol=1e-6):
        raise BlendError(f"shares add up to {sum(share for _, share in parts):g}; make it 1")
    network = CausalBSRoformer(configuration_from(parts[0][0], profile))
    total = {name: torch.zeros_like(weight) for name, weight in network.state_dict().items()}
    for model, share in parts:
        other, _ = load_model(model)
        if not isinstance(other, CausalBSRoformer):
            raise BlendError(f"{model}: is not one of our causal models; blend those")
        weights = other.state_dict()
        settle(weights, other.config, network.config)
        if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in total.items()}:
            raise BlendError(f"{model}: its network differs from that of {parts[0][0]}; blend alike ones")
        for name, weight in weights.items():
            total[name] += share * weight
    network.load_state_dict(total)
    return network.eval()


@torch.no_grad()
def soften(network: CausalBSRoformer, divisor: float) -> None:
    """Divide what goes into the masks' softmax, in place."""
    for weight in network.masks.outputs.parameters():
        weight.div_(divisor)


def part(text: str) -> Part:
    """A type of arguments: MODEL or MODEL=SHARE."""
    model, equals, share = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        number = float(share)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r:.80} is no MODEL=SHARE: the share is a number")
    return model, number


def divisor(text: str) -> float:
    """A type of arguments: what to divide by."""
    return within(text, 0.1, 10.0)


def main() -> None:
    """Blend, and write whole or not at all; errors are one line and exit code 2."""
    run_tool(lambda: _run(_arguments()), EXPECTED)


def _arguments() -> argparse.Namespace:
    parser = OneLineParser(prog="python -m model.training.blend", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("parts", nargs="+", type=part, metavar="MODEL[=SHARE]", help="share 1 if not given")
    parser.add_argument("--profile", choices=TRAINABLE, help="framing (default: that of the first model)")
    parser.add_argument("--soften", type=divisor, default=1.0, help="divisor; 1.5 made those that ship")
    parser.add_argument("--out", type=Path, required=True, help=f"file to write, ending in {SUFFIX}")
    return parser.parse_args()


def _run(args: argparse.Namespace) -> None:
    if args.out.suffix != SUFFIX:
        raise BlendError(f"{args.out}: must end in {SUFFIX}; choose another name")
    if not args.out.parent.is_dir():
        raise BlendError(f"{args.out.parent}: there is no such folder; make it first")
    if args.out.exists():
        raise BlendError(f"{args.out}: exists and would be lost; choose another name")
    network = blended(args.parts, TRAINABLE[args.profile] if args.profile else None)
    soften(network, args.soften)
    made_of = ", ".join(f"{share:g} x {model}" for model, share in args.parts)
    text = f"Blended: {made_of}; masks softer by {args.soften:g}."
    save_checkpoint(args.out, network.round_band_weights(), ModelCard("NOASSERTION", "stembridge", text))
    print(f"{args.out}: {text}")


if __name__ == "__main__":
    main()
