"""Band tables: how many STFT bins each band of a band-split RoFormer takes."""

import math
from dataclasses import dataclass

import numpy as np

BS_BANDS: tuple[int, ...] = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
"""The 62 bands of the published BS-RoFormer (arXiv 2309.02612) for a 2048-point STFT at 44.1 kHz."""

CAUSAL_BANDS: tuple[int, ...] = (2,) * 12 + (4,) * 10 + (12,) * 8 + (32,) * 6 + (128,) * 3 + (289,)
"""40 bands in few different widths: equal neighbours share one batched product in the causal model."""


@dataclass(frozen=True)
class BandGroup:
    """Neighbouring bands of equal width: bands `first_band ...` over bins `first_bin : last_bin`."""

    first_band: int
    bands: int
    first_bin: int
    width: int

    @property
    def last_bin(self) -> int:
        return self.first_bin + self.bands * self.width

    @property
    def last_band(self) -> int:
        return self.first_band + self.bands


def band_groups(widths: tuple[int, ...]) -> tuple[BandGroup, ...]:
    """Merge neighbouring bands of equal width into groups.

    Parameters: `widths`, bins per band. Returns the groups, low to high, covering every band once.
    Threads: any.
    """
    groups: list[BandGroup] = []
    first_bin = 0
    for band, width in enumerate(widths):
        if groups and groups[-1].width == width:
            last = groups[-1]
            groups[-1] = BandGroup(last.first_band, last.bands + 1, last.first_bin, width)
        else:
            groups.append(BandGroup(band, 1, first_bin, width))
        first_bin += width
    return tuple(groups)


def mel_band_bins(bands: int, n_fft: int, sample_rate_hz: int) -> tuple[range, ...]:
    """STFT bins of the overlapping bands of the published Mel-Band RoFormer (arXiv 2310.01809).

    A band holds the bins strictly inside its triangle of Slaney's mel filter bank from 0 Hz to half the
    sample rate; bin 0 joins the first band and the last bin the last. A band may be empty where there are
    more bands than the STFT can tell apart. Threads: any.
    """
    mels = np.linspace(0, _slaney_mel(sample_rate_hz / 2), bands + 2)
    edges_hz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))
    edges = edges_hz * n_fft / sample_rate_hz
    firsts = np.floor(edges[:-2]).astype(int) + 1
    lasts = np.ceil(edges[2:]).astype(int) - 1
    firsts[0], lasts[-1] = 0, n_fft // 2
    return tuple(range(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True))


def _slaney_mel(hz: float) -> float:
    """Slaney's mel scale: linear up to 1 kHz (15 mel), then 27 steps to a factor of 6.4."""
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)
