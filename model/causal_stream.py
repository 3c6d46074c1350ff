"""Audio in, stem audio out, by whole hops: what the live separator and the offline renderer share."""

import torch
from torch import Tensor

from model.causal import CausalBSRoformer


def sanitised(audio: Tensor) -> Tensor:
    """A copy in which non-finite samples are 0 and the rest is clamped to +-8."""
    return torch.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0).clamp_(-8, 8)


class CausalStream:
    """A causal model with the audio it carries: analysis history, overlap tail and attention state.

    `process` takes [channels, T * hop_frames] and returns stems [stems, channels, T * hop_frames] whose
    first frame lies one hop, and one for each frame of look-ahead, before the first frame of the input: later
    input cannot change them any more. After a reset the hops of look-ahead are zeros.
    Everything carried is allocated once and written in place. Threads: one at a time.
    """

    def __init__(self, model: CausalBSRoformer, capacity: int = 1) -> None:
        config = model.config
        self.model = model
        self.state = model.new_state(capacity=capacity)
        device = model.rotations.device
        self._history = torch.zeros(config.channels, model.causal_stft.history_frames, device=device)
        self._tail = torch.zeros(config.stems, config.channels, config.hop_frames, device=device)

    def reset(self) -> None:
        """Back to silence, in place."""
        self.state.reset()
        self._history.zero_()
        self._tail.zero_()

    def carried(self) -> tuple[Tensor, ...]:
        """Every tensor that is written in place: history, tail, and those of the state."""
        return self._history, self._tail, *self.state.tensors

    def process(self, audio: Tensor) -> Tensor:
        """Separate the next hops. Non-finite samples count as 0, the rest is clamped to +-8."""
        known = torch.cat([self._history, sanitised(audio)], dim=-1)
        self._history.copy_(known[:, -self._history.shape[-1] :])
        spectrum = self.model.causal_stft.frames(known).unsqueeze(0)
        first, second = self.model.causal_stft.halves(self.model.advance(spectrum, self.state)[0])
        first[..., 0, :] += self._tail
        first[..., 1:, :] += second[..., :-1, :]
        self._tail.copy_(second[..., -1, :])
        return first.flatten(-2)
