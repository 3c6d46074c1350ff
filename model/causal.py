"""The project's own causal band-split RoFormer: a whole-signal forward and the same frame by frame."""

from typing import Self

import torch
from torch import Tensor, nn

from model.causal_layers import BandFeatures, CausalBlock, GroupedLinear, StemMasks, periodic_rotary
from model.causal_state import CausalState
from model.config import WHOLE_SIGNAL, CausalConfig, ConfigError
from model.layers import ALL
from model.stft import CausalSTFT


class CausalBSRoformer(nn.Module):
    """Band-split RoFormer on carried state; algorithmic latency (2 + look-ahead) H = `config.latency_frames`.

    Audio is [batch, channels, frames]; spectra are complex [batch, channels, spectral_frames, bins]. Only
    the first time layer looks ahead: what it asks for is delayed, and all that follows with it.
    Threads: one at a time.
    """

    rotations: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        self._stft = CausalSTFT(config.n_fft, config.hop_frames)
        self.features = BandFeatures(config, self._stft.power)
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.depth))
        self.masks = StemMasks(config)
        if config.look_aheads:
            self.look_ahead = nn.Parameter(torch.zeros(len(config.look_aheads), config.dim))
        table = periodic_rotary(config.dim_head, config.rotary_period)
        self.register_buffer("rotations", table, persistent=False)

    def reconfigured(self, config: CausalConfig) -> "CausalBSRoformer":
        """A copy with the same weights, to evaluate at another of its look-aheads."""
        other = CausalBSRoformer(config)
        other.load_state_dict(self.state_dict())
        return other.eval()

    @property
    def band_weights(self) -> list[str]:
        """Names of the weights that bands have their own of: most of all, and each used once a hop."""
        modules = self.named_modules()
        return [f"{name}.weight" for name, module in modules if isinstance(module, GroupedLinear)]

    @torch.no_grad()
    def round_band_weights(self) -> Self:
        """Round `band_weights` to bfloat16, in place: a live hop on a CPU waits for them longer than it works
        with them, and then has half as much to read."""
        for name in self.band_weights:
            weight = self.get_parameter(name)
            weight.copy_(weight.bfloat16())
        return self

    @property
    def causal_stft(self) -> CausalSTFT:
        return self._stft

    def stft(self, audio: Tensor, hops_after: int = 1) -> Tensor:
        """[..., frames] -> complex [..., spectral_frames, bins]; `hops_after` of silence, one for the overlap
        and one for each frame of look-ahead."""
        spectrum: Tensor = self._stft(audio, hops_after)
        return spectrum

    def inverse_stft(self, spectrum: Tensor, frames: int) -> Tensor:
        """Complex [..., spectral_frames, bins] -> [..., frames], aligned with the audio given to `stft`."""
        return self._stft.inverse(spectrum, frames)

    def mask(self, spectrum: Tensor, look_ahead: int | None = None, asked: slice = ALL) -> Tensor:
        """Masks [batch, stems, channels, spectral frames asked for, bins] for a whole signal's spectrum.

        `look_ahead` is one of `config.look_aheads`; by default the configuration's own. Nothing follows the
        last frame. What only frames not `asked` for need is left out; the values are the same. Raises
        ConfigError for a look-ahead that was not trained, and for a signal too long to be seen whole.
        """
        ahead, frames, period = self._known(look_ahead), spectrum.shape[-2], self.config.rotary_period
        if ahead == WHOLE_SIGNAL and frames > period // 2:
            raise ConfigError(f"{frames} spectral frames cannot be seen whole: take pieces of {period // 2}")
        positions = torch.arange(frames, device=spectrum.device) % period
        rotations = torch.view_as_complex(self.rotations[positions])
        x = self.embedded(self.features(spectrum), ahead)
        first, (start, stop, _) = 0, asked.indices(frames)
        for later, block in zip(reversed(range(self.config.depth)), self.blocks, strict=True):
            x, ahead = block(x, rotations[first : first + x.shape[1]], ahead), 0
            needed = max(0, start - later * (self.config.past_frames - 1))
            if (needed, stop) != (first, first + x.shape[1]):
                x = x[:, needed - first : stop - first]
            first = needed
        masks: Tensor = self.masks(x)
        return masks

    def forward(self, audio: Tensor, look_ahead: int | None = None) -> Tensor:
        """[batch, channels, frames] -> [batch, stems, channels, frames], aligned with the input; silence
        follows it. `look_ahead` and errors as `mask`."""
        return self.part(audio, 0, audio.shape[-1], look_ahead)

    def part(self, audio: Tensor, start: int, end: int, look_ahead: int | None = None) -> Tensor:
        """`forward(audio, look_ahead)[..., start:end]`, for less work; `end` within the audio."""
        spectrum = self.stft(audio, 1 + max(self._known(look_ahead), 0))
        asked = self._stft.covering(start, end)
        stems = spectrum[..., asked, :].unsqueeze(1) * self.mask(spectrum, look_ahead, asked)
        first = asked.start * self.config.hop_frames
        return self.inverse_stft(stems, end - first)[..., start - first :]

    def _known(self, look_ahead: int | None) -> int:
        if look_ahead is None:
            return self.config.look_ahead_frames
        return self.config.with_look_ahead(look_ahead).look_ahead_frames

    def embedded(self, features: Tensor, look_ahead: int) -> Tensor:
        """Features that say which look-ahead they are for, where the network knows several."""
        if not self.config.look_aheads:
            return features
        return features + self.look_ahead[self.config.look_aheads.index(look_ahead)]

    def new_state(self, batch: int = 1, capacity: int = 1) -> CausalState:
        """State for `advance`; `capacity` is the most spectral frames that one step processes at once.

        Raises ConfigError where the configuration sees the whole signal.
        """
        return CausalState.new(self.config, self.rotations, batch, capacity)

    @torch.no_grad()
    def advance(self, spectrum: Tensor, state: CausalState) -> Tensor:
        """Take in the next T >= 1 frames [batch, channels, T, bins]; stems [batch, stems, channels, T, bins].

        The stems are of the frames that came in a look-ahead earlier, and zeros before the first. They equal
        the same frames of the whole-signal forward, however the signal is cut. Changes `state`.
        """
        pieces = torch.split(spectrum, state.capacity, dim=2)
        stems = [self._separate(piece, state) for piece in pieces]
        return stems[0] if len(stems) == 1 else torch.cat(stems, dim=3)

    def _separate(self, spectrum: Tensor, state: CausalState) -> Tensor:
        x = self.embedded(self.features(spectrum), self.config.look_ahead_frames)
        x, spectrum, contexts = state.step(x, spectrum, self.rotations)
        for block, context, cache in zip(self.blocks, contexts, state.caches, strict=True):
            x = block.advance(x, context, cache)  # type: ignore[operator]
        stems: Tensor = spectrum.unsqueeze(1) * self.masks(x)
        return stems
