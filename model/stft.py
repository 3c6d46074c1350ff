"""STFTs: the centred one of the published models and the causal one with a short synthesis window."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision audio as float32, anything wider unchanged: an STFT in half precision moves masks."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class CentredSTFT(nn.Module):
    """The STFT of the published models: periodic Hann, reflected at both ends, not normalised.

    `forward`: audio [..., frames] -> complex spectrum [..., bins, spectral_frames];
    `inverse`: the way back, to `frames` frames. Threads: any.
    """

    def __init__(self, n_fft: int, hop_frames: int, win_frames: int) -> None:
        super().__init__()
        self.n_fft, self.hop_frames, self.win_frames = n_fft, hop_frames, win_frames

    def _window(self, like: Tensor) -> Tensor:
        # Made on the spot: as a buffer it would be rounded along with half-precision weights.
        return torch.hann_window(self.win_frames, dtype=like.dtype, device=like.device)

    def forward(self, audio: Tensor) -> Tensor:
        audio = at_least_float32(audio)
        spectrum = torch.stft(
            audio.reshape(-1, audio.shape[-1]),
            self.n_fft,
            self.hop_frames,
            win_length=self.win_frames,
            window=self._window(audio),
            return_complex=True,
        )
        return spectrum.reshape(*audio.shape[:-1], *spectrum.shape[-2:])

    def inverse(self, spectrum: Tensor, frames: int) -> Tensor:
        audio = torch.istft(
            spectrum.reshape(-1, *spectrum.shape[-2:]),
            self.n_fft,
            self.hop_frames,
            win_length=self.win_frames,
            window=self._window(spectrum.real),
            length=frames,
        )
        return audio.reshape(*spectrum.shape[:-2], frames)

    def covering(self, start: int, end: int, spectral_frames: int) -> slice:
        """The spectral frames of which `inverse` makes the audio frames [start, end)."""
        reach = self.win_frames // 2 - 1  # the window's first sample is 0
        first = max(0, -((reach - start) // self.hop_frames))
        return slice(first, min(spectral_frames, (end - 1 + reach) // self.hop_frames + 1))

    def inverse_part(self, spectrum: Tensor, first: int, start: int, end: int) -> Tensor:
        """What `inverse` has at [start, end), from the spectral frames `covering` it, number `first` on.

        [..., bins, spectral_frames] -> [..., end - start]. Unlike torch.istft it asks nothing of the values,
        so a graph can capture it; nothing is reflected, so [start, end) lies within the signal.
        """
        margin = (self.n_fft - self.win_frames) // 2
        window = F.pad(self._window(spectrum.real), (margin, self.n_fft - self.win_frames - margin))
        segments = torch.fft.irfft(spectrum, n=self.n_fft, dim=-2) * window[:, None]
        flat = segments.reshape(-1, *segments.shape[-2:])
        squares = window.square()[None, :, None].expand(1, -1, flat.shape[-1])
        begin = start - (first * self.hop_frames - self.n_fft // 2)
        sums = self._overlap_added(torch.cat([flat, squares]))[:, begin : begin + end - start]
        return (sums[:-1] / sums[-1]).reshape(*spectrum.shape[:-2], end - start)

    def _overlap_added(self, segments: Tensor) -> Tensor:
        """[rows, n_fft, spectral_frames] -> [rows, frames]."""
        frames = self.n_fft + (segments.shape[-1] - 1) * self.hop_frames
        sums = F.fold(segments, (1, frames), (1, self.n_fft), stride=(1, self.hop_frames))
        return sums.flatten(1)


def causal_windows(n_fft: int, hop_frames: int) -> tuple[Tensor, Tensor]:
    """Analysis window [n_fft] and synthesis window [2 * hop_frames], float64.

    Analysis: the rising half of a square-root Hann of 2(N - H), then the falling half of one of 2H.
    Synthesis: Hann(2H) / analysis, so that the product overlap-adds to 1 and no gain exceeds 1
    (after arXiv 2106.11794; a plain Hann analysis would amplify the tail).
    """
    rise, fall = n_fft - hop_frames, hop_frames
    rising = torch.sin(math.pi / 2 * torch.arange(rise, dtype=torch.float64) / rise)
    falling = torch.cos(math.pi / 2 * torch.arange(fall, dtype=torch.float64) / fall)
    analysis = torch.cat([rising, falling])
    hann = torch.hann_window(2 * hop_frames, dtype=torch.float64)
    return analysis, hann / analysis[-2 * hop_frames :].clamp_min(1e-12)


def mid_side(x: Tensor, dim: int) -> Tensor:
    """Left and right along an axis of 2 as mid and side, and those as left and right: it is its own inverse.
    Mono, an axis of 1, stays as it is."""
    if x.shape[dim] == 1:
        return x
    first, second = x.unbind(dim)
    turned: Tensor = torch.stack([first + second, first - second], dim) * 0.5**0.5
    return turned


class CausalSTFT(nn.Module):
    """STFT whose frame k sees only samples before (k + 1)H and whose synthesis spans the newest 2H of them.

    Stereo is analysed as mid and side. `history_frames` = N - H samples of the past go in front of whatever
    is analysed; at the start of a signal they are zeros. Audio is [..., channels, frames], spectra are
    [..., channels, spectral_frames, bins]. Threads: any.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, n_fft: int, hop_frames: int) -> None:
        super().__init__()
        self.n_fft, self.hop_frames = n_fft, hop_frames
        self.history_frames = n_fft - hop_frames
        analysis, synthesis = causal_windows(n_fft, hop_frames)
        self.power = float(analysis.square().sum())
        self.register_buffer("analysis", analysis.float(), persistent=False)
        self.register_buffer("synthesis", synthesis.float(), persistent=False)

    def frames(self, audio: Tensor) -> Tensor:
        """[..., channels, history + T * H] -> [..., channels, T, bins]."""
        segments = mid_side(at_least_float32(audio), -2).unfold(-1, self.n_fft, self.hop_frames)
        spectrum: Tensor = torch.fft.rfft(segments * self.analysis)
        return spectrum

    def halves(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """[..., channels, T, bins] -> the windowed newest 2H samples of every frame as two halves
        [..., channels, T, H]."""
        segments = torch.fft.irfft(spectrum, n=self.n_fft)[..., -2 * self.hop_frames :] * self.synthesis
        first, second = torch.split(mid_side(segments, -3), self.hop_frames, dim=-1)
        return first, second

    def forward(self, audio: Tensor, hops_after: int = 1) -> Tensor:
        """Whole signal [..., channels, frames] -> [..., channels, T, bins]; T counts `hops_after` of silence:
        one flushes the overlap."""
        hops = -(-audio.shape[-1] // self.hop_frames) + hops_after
        padding = (self.history_frames, hops * self.hop_frames - audio.shape[-1])
        return self.frames(F.pad(audio, padding))

    def covering(self, start: int, end: int) -> slice:
        """The spectral frames of which `inverse` makes the audio frames [start, end)."""
        return slice(start // self.hop_frames, -(-end // self.hop_frames) + 1)

    def inverse(self, spectrum: Tensor, frames: int) -> Tensor:
        """[..., channels, T, bins] of a whole signal -> [..., channels, frames], aligned with what `forward`
        was given."""
        first, second = self.halves(spectrum[..., : -(-frames // self.hop_frames) + 1, :])
        return (second[..., :-1, :] + first[..., 1:, :]).flatten(-2)[..., :frames]
