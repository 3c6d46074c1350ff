"""A live hop packed for one CPU core, captured once and replayed without Python."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.causal_stream import CausalStream, sanitised
from model.packed import PackedStep


class PackedHop(nn.Module):
    """`CausalStream.process` for one hop on tensors only, so that a graph can capture it."""

    analysis: Tensor
    synthesis: Tensor
    rotations: Tensor

    def __init__(self, stream: CausalStream) -> None:
        super().__init__()
        model = stream.model
        self.config, self.step = model.config, PackedStep(model)
        self.register_buffer("analysis", model.causal_stft.analysis)
        self.register_buffer("synthesis", model.causal_stft.synthesis)
        self.register_buffer("rotations", torch.view_as_complex(model.rotations))

    def forward(
        self,
        audio: Tensor,
        history: Tensor,
        tail: Tensor,
        position: Tensor,
        slot_positions: Tensor,
        *rings: Tensor,
    ) -> Tensor:
        """Stems [stems, channels, hop_frames] of audio [channels, hop_frames]; writes to everything else."""
        hop_frames, n_fft = self.config.hop_frames, self.config.n_fft
        known = torch.cat([history, sanitised(audio)], dim=-1)
        history.copy_(known[:, hop_frames:])
        spectrum = torch.fft.rfft(known * self.analysis)
        context = self._context(position, slot_positions)
        masks = self.step(spectrum.unsqueeze(0).unsqueeze(2), *context, *rings)
        segments = torch.fft.irfft(spectrum * masks[0, :, :, 0], n=n_fft)[..., -2 * hop_frames :]
        segments = segments * self.synthesis
        stems: Tensor = segments[..., :hop_frames] + tail
        tail.copy_(segments[..., hop_frames:])
        return stems

    def _context(self, position: Tensor, slot_positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `CausalBSRoformer.context`, for one spectral frame."""
        slots = position % slot_positions.shape[0]
        slot_positions.index_copy_(0, slots, position)
        visible = slot_positions > position - self.config.past_frames
        bias = torch.where(visible, 0.0, -torch.inf).unsqueeze(0)
        rotations = self.rotations.index_select(0, position % self.config.rotary_period)
        position.add_(1)
        return rotations, slots, bias


def capture_hop(stream: CausalStream) -> Callable[[Tensor], Tensor]:
    """`stream.process` for exactly one hop a call, as a captured graph; resets the stream.

    The graph holds a packed copy of the weights as they are now and writes to the stream's own tensors, so
    `reset` stays in place. torch.jit is deprecated but alone in needing neither a compiler on the user's
    machine nor a warm-up of seconds; where a torch cannot trace, this is `stream.process` itself.
    Threads: as the stream.
    """
    config, carried = stream.model.config, stream.carried()
    audio = torch.zeros(config.channels, config.hop_frames)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            hop = PackedHop(stream).eval()
            traced = torch.jit.trace_module(hop, {"forward": (audio, *carried)}, check_trace=False)  # type: ignore[no-untyped-call]
            frozen = torch.jit.freeze(traced)
        except (RuntimeError, AttributeError):
            return stream.process
        finally:
            stream.reset()
    return lambda audio: frozen(audio, *carried)
