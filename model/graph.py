"""A live hop packed for one CPU core, captured once and replayed without Python."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.causal_state import CausalState
from model.causal_stream import CausalStream, sanitised
from model.compromise import Compromise
from model.devices import first_line
from model.packed import PackedStep
from model.stft import mid_side


class PackedHop(nn.Module):
    """`CausalStream.process` for one hop on tensors only, so that a graph can capture it."""

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, stream: CausalStream) -> None:
        super().__init__()
        model = stream.model
        self.config, self.step = model.config, PackedStep(model)
        self.register_buffer("analysis", model.causal_stft.analysis)
        self.register_buffer("synthesis", model.causal_stft.synthesis)

    def forward(self, audio: Tensor, history: Tensor, tail: Tensor, *state: Tensor) -> Tensor:
        """Stems [stems, channels, hop_frames] of audio [channels, hop_frames]; writes to everything else."""
        hop_frames, n_fft = self.config.hop_frames, self.config.n_fft
        known = torch.cat([history, sanitised(audio)], dim=-1)
        history.copy_(known[:, hop_frames:])
        spectrum = torch.fft.rfft(mid_side(known, -2) * self.analysis)
        spectra = self.step(spectrum, CausalState.of(self.config, state))
        segments = torch.fft.irfft(spectra, n=n_fft)[..., -2 * hop_frames :] * self.synthesis
        segments = mid_side(segments, -2)
        stems: Tensor = segments[..., :hop_frames] + tail
        tail.copy_(segments[..., hop_frames:])
        return stems


def capture_hop(stream: CausalStream) -> Callable[[Tensor], Tensor]:
    """`stream.process` for exactly one hop a call, as a captured graph; resets the stream.

    The graph holds a packed copy of the weights as they are now and writes to the stream's own tensors, so
    `reset` stays in place. torch.jit is deprecated but alone in needing neither a compiler on the user's
    machine nor a warm-up of seconds; where a torch cannot trace, and for what is not one stream on a CPU,
    this is `stream.process` itself. Threads: as the stream.
    """
    if stream.streams > 1 or stream.model.rotations.device.type != "cpu":
        return stream.process
    config, carried = stream.model.config, stream.carried()
    audio = torch.zeros(config.channels, config.hop_frames)
    try:
        frozen = _traced(PackedHop(stream).eval(), (audio, *carried))
    except (RuntimeError, AttributeError) as error:
        said = f"a hop runs as it is, two to three times slower: torch cannot trace it ({first_line(error)})"
        warnings.warn(said, Compromise, stacklevel=2)
        return stream.process
    finally:
        stream.reset()
    return lambda audio: frozen(audio, *carried)


def _traced(hop: PackedHop, example: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated
        traced = torch.jit.trace_module(hop, {"forward": example}, check_trace=False)  # type: ignore[no-untyped-call]
        frozen: Callable[..., Tensor] = torch.jit.freeze(traced)
        return frozen
