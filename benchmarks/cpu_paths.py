"""Ways to run a causal model's hop on one thread: python -m benchmarks.cpu_paths [--model ID] [--json].

Each gives the same stems within 1e-4 before it is timed, all in one run; what is shipped comes first. A way
that does not work here is a line with its reason. `whole context` recomputes the frames that a time layer
attends to for every hop, as a model without carried state must.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Container
from io import BytesIO

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.model_hop import network_of
from host.bench_rows import Row, as_table, in_order
from host.errors import guarded, one_line
from host.hop_times import in_time, runs_in, summary, timed
from model.causal import CausalBSRoformer
from model.causal_state import CausalState
from model.causal_stream import CausalStream
from model.graph import capture_hop

Hop = Callable[[Tensor], Tensor]
GROUP = "causal hop, one thread"
TOLERANCE = 1e-4
LONGEST_COMPILE_S = 300
CHECKED_HOPS = 24


def shipped(network: CausalBSRoformer) -> Hop:
    hop = capture_hop(CausalStream(network))
    if not hop:
        raise RuntimeError("not installed: pip install numba")
    return hop


def eager(network: CausalBSRoformer) -> Hop:
    return CausalStream(network).process


def compiled(network: CausalBSRoformer) -> Hop:
    return torch.compile(CausalStream(network).process)


class Pure(nn.Module):
    """The masks of a spectral frame with features [1, 1, bands, dim], and what is carried on.

    Exporters want functions, and translate no complex spectra: features are made of those outside.
    """

    def __init__(self, network: CausalBSRoformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, *carried: Tensor) -> tuple[Tensor, ...]:
        network, after = self.network, [tensor.clone() for tensor in carried]
        state = CausalState.of(network.config, tuple(after))
        x, _, contexts = state.step(features, features.new_zeros(1, 1, 1, 1), network.rotations)
        for block, context, cache in zip(network.blocks, contexts, state.caches, strict=True):
            x = block.advance(x, context, cache)  # type: ignore[operator]
        return network.masks(x), *after


def onnx_runtime(network: CausalBSRoformer) -> Hop:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - the exporter's
    except ImportError as error:
        raise RuntimeError(f"not installed: pip install onnx onnxscript onnxruntime ({error})") from None
    if network.config.look_ahead_frames:
        raise RuntimeError("a look-ahead delays complex spectra, which the exporter does not translate")
    stream, file = CausalStream(network), BytesIO()
    held = [tensor.clone() for tensor in stream.state.tensors]
    features = torch.zeros(1, 1, len(network.config.bands), network.config.dim)
    torch.onnx.export(Pure(network).eval(), (features, *held), file, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    names, carried = [each.name for each in session.get_inputs()], [tensor.numpy() for tensor in held]

    def advance(spectrum: Tensor, _state: CausalState) -> Tensor:
        given = [network.embedded(network.features(spectrum), 0).numpy(), *carried]
        masks, *carried[:] = session.run(None, dict(zip(names, given, strict=True)))
        return spectrum.unsqueeze(1) * torch.from_numpy(masks)

    network.advance = advance  # type: ignore[method-assign]
    return stream.process


def whole_context(network: CausalBSRoformer) -> Hop:
    """The newest final hop of a forward over all frames that one time layer attends to."""
    config = network.config
    hop_frames, ahead = config.hop_frames, config.look_ahead_frames
    recent = torch.zeros(config.channels, 0)

    def hop(audio: Tensor) -> Tensor:
        nonlocal recent
        recent = torch.cat([recent, audio], dim=1)[:, -config.past_frames * hop_frames :]
        spectrum = network.stft(recent.unsqueeze(0), hops_after=0)
        end = spectrum.shape[2] - ahead
        if end < 2:
            return torch.zeros(config.stems, config.channels, hop_frames)
        masks = network.mask(spectrum, asked=slice(end - 2, end))
        first, second = network.causal_stft.halves(spectrum[0, :, end - 2 : end] * masks[0])
        return second[..., 0, :] + first[..., 1, :]

    return hop


WAYS = {
    "compiled (shipped)": shipped,
    "eager": eager,
    "torch.compile": compiled,
    "ONNX Runtime": onnx_runtime,
    "whole context": whole_context,
}


def noise(network: CausalBSRoformer, hops: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (network.config.channels, network.config.hop_frames)
    return [0.1 * torch.randn(shape, generator=generator) for _ in range(hops)]


def difference(hop: Hop, network: CausalBSRoformer) -> float:
    """Largest difference of the first hops' stems from those of a whole-signal forward.

    Fewer hops than a layer attends to, so that recomputing that context must give the same.
    """
    hops, ahead = noise(network, CHECKED_HOPS), network.config.look_ahead_frames
    expected = network(torch.cat(hops, dim=1).unsqueeze(0))[0]
    found = torch.cat([hop(audio).clone() for audio in hops], dim=-1)
    delay = (1 + ahead) * network.config.hop_frames
    return float((found[..., delay:] - expected[..., :-delay]).abs().max())


def full_step(hop: Hop, network: CausalBSRoformer) -> Callable[[int], Tensor]:
    """A run is one hop of noise, after as many as a layer attends to."""
    audio = noise(network, network.config.past_frames)
    for each in audio:
        hop(each)
    return lambda run: hop(audio[run % len(audio)])


def row(name: str, make: Callable[[CausalBSRoformer], Hop], network: CausalBSRoformer, seconds: float) -> Row:
    """Checked, then timed; what does not work says why."""
    try:
        hop = make(network)
        worst = difference(hop, network)
        if not worst <= TOLERANCE:
            return Row(GROUP, name, trouble=f"differs by {worst:.1e}")
        step = full_step(hop, network)
        took = timed(step, runs_in(step, seconds))
    except (RuntimeError, ImportError, AttributeError) as error:
        return Row(GROUP, name, trouble=one_line(error.__cause__ or error)[:200])
    hop_s = network.config.hop_frames / network.config.sample_rate_hz
    return Row(GROUP, name, summary(took, hop_s) | {"hops": len(took), "difference": worst})


def compiled_row(name: str, network: CausalBSRoformer, seconds: float) -> Row:
    """In a process of its own: a compiler may take for ever."""
    try:
        return in_time(LONGEST_COMPILE_S + seconds, alone, name, network, seconds)
    except RuntimeError as error:
        return Row(GROUP, name, trouble=one_line(error))


def alone(name: str, network: CausalBSRoformer, seconds: float) -> Row:
    settle_torch()
    with torch.inference_mode():
        return row(name, WAYS[name], network, seconds)


def settle_torch() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore")  # exporters' and compilers'


def measure(network: CausalBSRoformer, ways: Container[str], seconds: float) -> list[Row]:
    """One row for each way, with its time over the shipped one's."""
    rows = []
    for name in WAYS:
        if name in ways:
            how = compiled_row if WAYS[name] is compiled else alone
            rows.append(how(name, network, seconds))
    return in_order(rows)


@guarded
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin", help="model id or path (default: %(default)s)")
    parser.add_argument("--only", choices=WAYS, action="append", help="a way (repeatable; default: all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each way (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    options = parser.parse_args()
    network, weights = network_of(options.model)
    rows = measure(network, options.only or WAYS, options.seconds)
    if options.json:
        print(json.dumps([{"weights": weights, "name": each.name, **each.figures} for each in rows]))
        return
    Console(width=200).print(weights, as_table(rows), sep="\n")


if __name__ == "__main__":
    main()
