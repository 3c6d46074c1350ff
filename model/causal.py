"""The project's own causal band-split RoFormer: a whole-signal forward and the same frame by frame."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.causal_layers import BandFeatures, CausalBlock, LayerCache, StemMasks, TimeContext, periodic_rotary
from model.config import CausalConfig
from model.stft import CausalSTFT


@dataclass
class CausalState:
    """The past that `advance` carries: a ring of keys and values per layer. Allocated once, written in place.

    `rings` holds keys and values of the first layer, of the second, ...; `slot_positions` [ring] says which
    spectral frame lies in each place of a ring (far past: none); `position` [1] is the number of the next;
    `capacity` is how many spectral frames one step may write.
    """

    rings: list[Tensor]
    slot_positions: Tensor
    position: Tensor
    capacity: int

    def reset(self) -> None:
        """Back to the start of a signal, in place. Zeroing matters: a stale NaN times weight 0 is a NaN."""
        for ring in self.rings:
            ring.zero_()
        self.slot_positions.fill_(-(1 << 40))
        self.position.zero_()


class CausalBSRoformer(nn.Module):
    """Band-split RoFormer that never looks ahead; algorithmic latency 2H = `config.latency_frames`.

    Audio is [batch, channels, frames]; spectra are complex [batch, channels, spectral_frames, bins].
    A trained look-ahead would delay the queries of the first time layer, and the spectrum the masks are
    applied to with them; this model has none. Threads: one at a time.
    """

    rotations: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        self._stft = CausalSTFT(config.n_fft, config.hop_frames)
        self.features = BandFeatures(config, self._stft.power)
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.depth))
        self.masks = StemMasks(config)
        table = periodic_rotary(config.dim_head, config.rotary_period)
        self.register_buffer("rotations", table, persistent=False)

    @property
    def causal_stft(self) -> CausalSTFT:
        return self._stft

    def stft(self, audio: Tensor) -> Tensor:
        """[..., frames] -> complex [..., spectral_frames, bins]; one hop more, for the overlap."""
        spectrum: Tensor = self._stft(audio)
        return spectrum

    def inverse_stft(self, spectrum: Tensor, frames: int) -> Tensor:
        """Complex [..., spectral_frames, bins] -> [..., frames], aligned with the audio given to `stft`."""
        return self._stft.inverse(spectrum, frames)

    def mask(self, spectrum: Tensor) -> Tensor:
        """Masks [batch, stems, channels, spectral_frames, bins] for a whole signal's spectrum."""
        rotations = self._rotations(torch.arange(spectrum.shape[-2], device=spectrum.device))
        x = self.features(spectrum)
        for block in self.blocks:
            x = block(x, rotations)
        masks: Tensor = self.masks(x)
        return masks

    def forward(self, audio: Tensor) -> Tensor:
        """[batch, channels, frames] -> [batch, stems, channels, frames], aligned with the input."""
        spectrum = self.stft(audio)
        return self.inverse_stft(spectrum.unsqueeze(1) * self.mask(spectrum), audio.shape[-1])

    def new_state(self, batch: int = 1, capacity: int = 1) -> CausalState:
        """State for `advance`; `capacity` is the most spectral frames that one step processes at once."""
        config, like = self.config, self.rotations
        ring, rows = config.past_frames - 1 + capacity, batch * len(config.bands)
        keys, values = (rows, config.dim_head, ring), (rows, ring, config.dim_head)
        rings = [like.new_empty(shape) for _ in self.blocks for shape in (keys, values)]
        slot_positions = torch.empty(ring, dtype=torch.long, device=like.device)
        position = torch.empty(1, dtype=torch.long, device=like.device)
        state = CausalState(rings, slot_positions, position, capacity)
        state.reset()
        return state

    @torch.no_grad()
    def advance(self, spectrum: Tensor, state: CausalState) -> Tensor:
        """Stems [batch, stems, channels, T, bins] of the next T >= 1 frames [batch, channels, T, bins].

        They equal the same frames of the whole-signal forward, however the signal is cut. Changes `state`.
        """
        pieces = torch.split(spectrum, state.capacity, dim=2)
        stems = [self._separate(piece, state) for piece in pieces]
        return stems[0] if len(stems) == 1 else torch.cat(stems, dim=3)

    def _masks(
        self, spectrum: Tensor, rotations: Tensor, slots: Tensor, bias: Tensor, *rings: Tensor
    ) -> Tensor:
        """Masks of the next frames; writes to the rings."""
        context = TimeContext(rotations, slots, bias)
        x = self.features(spectrum)
        for block, keys, values in zip(self.blocks, rings[::2], rings[1::2], strict=True):
            x = block.advance(x, context, LayerCache(keys, values))  # type: ignore[operator]
        masks: Tensor = self.masks(x)
        return masks

    def _separate(self, spectrum: Tensor, state: CausalState) -> Tensor:
        masks = self._masks(spectrum, *self.context(spectrum.shape[2], state), *state.rings)
        return spectrum.unsqueeze(1) * masks

    def context(self, frames: int, state: CausalState) -> tuple[Tensor, Tensor, Tensor]:
        """Claim the next places of the ring: rotations, places and attention bias, as in TimeContext."""
        positions = state.position + torch.arange(frames, device=self.rotations.device)
        slots = positions % state.slot_positions.numel()
        state.slot_positions.index_copy_(0, slots, positions)
        state.position += frames
        age = positions[:, None] - state.slot_positions
        bias = torch.zeros_like(age, dtype=self.rotations.dtype)
        bias.masked_fill_((age < 0) | (age >= self.config.past_frames), -torch.inf)
        return self._rotations(positions), slots, bias

    def _rotations(self, positions: Tensor) -> Tensor:
        """Complex [spectral_frames, dim_head / 2]."""
        return torch.view_as_complex(self.rotations[positions % self.config.rotary_period])
