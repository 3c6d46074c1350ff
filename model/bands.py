"""Band tables: how many STFT bins each band of a band-split RoFormer takes."""

from dataclasses import dataclass

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
