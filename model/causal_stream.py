"""Audio in, stem audio out, by whole hops: what the live separator and the offline renderer share."""

import torch
from torch import Tensor

from model.causal import CausalBSRoformer
from model.causal_state import zero_rows

LOUDEST = 8.0


def sanitised(audio: Tensor) -> Tensor:
    """A copy in which non-finite samples are 0 and the rest is clamped to +-LOUDEST."""
    return torch.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0).clamp_(-LOUDEST, LOUDEST)


class CausalStream:
    """A causal model with the audio it carries: analysis history, overlap tail and attention state.

    `process` takes [channels, T * hop_frames] and returns stems [stems, channels, T * hop_frames] whose
    first frame lies one hop, and one for each frame of look-ahead, before the first frame of the input: later
    input cannot change them any more. After a reset the hops of look-ahead are zeros.
    `streams` independent signals go together as [streams, ...]; a lone one has no axis of its own.
    Everything carried is allocated once and written in place. Threads: one at a time.
    """

    def __init__(self, model: CausalBSRoformer, capacity: int = 1, streams: int = 1) -> None:
        config = model.config
        self.model, self.streams = model, streams
        self.state = model.new_state(streams, capacity)
        self._history, self._tail = (
            torch.zeros(streams, *shape, device=model.rotations.device).squeeze(0)
            for shape in (
                (config.channels, model.causal_stft.history_frames),
                (config.stems, config.channels, config.hop_frames),
            )
        )

    def reset(self, stream: int | None = None) -> None:
        """One stream, or all, back to silence, in place."""
        self.state.reset(stream)
        zero_rows([self._history, self._tail], self.streams, stream)

    def carried(self) -> tuple[Tensor, ...]:
        """Every tensor that is written in place: history, tail, and those of the state."""
        return self._history, self._tail, *self.state.tensors

    def process(self, audio: Tensor) -> Tensor:
        """Separate the next hops. Non-finite samples count as 0, the rest is clamped to +-8."""
        known = torch.cat([self._history, sanitised(audio)], dim=-1)
        self._history.copy_(known[..., -self._history.shape[-1] :])
        spectrum = self.model.causal_stft.frames(known)
        spectra = self.model.advance(spectrum.view(self.streams, *spectrum.shape[-3:]), self.state)
        first, second = self.model.causal_stft.halves(spectra.squeeze(0))
        first[..., 0, :] += self._tail
        first[..., 1:, :] += second[..., :-1, :]
        self._tail.copy_(second[..., -1, :])
        return first.flatten(-2)
