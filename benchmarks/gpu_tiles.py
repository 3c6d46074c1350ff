"""Block sizes of the own kernels of a GPU: those taken unless told, and those that `gpu_paths` measures."""

from dataclasses import dataclass

TIME, BANDS = 1, 2
"""The axis that a layer attends over."""
AXES = {TIME: "time", BANDS: "bands"}


@dataclass(frozen=True)
class Tiles:
    """Block sizes of a kernel, in the order of its grid, its warps, and how many loads run ahead."""

    blocks: tuple[int, ...]
    warps: int = 4
    stages: int = 2

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.blocks))}, {self.warps} warps, {self.stages} stages"


ATTENTION_TILES = {TIME: Tiles((64, 64)), BANDS: Tiles((64, 64))}
GELU_TILES = Tiles((128, 128, 64), warps=8, stages=3)
NORM_TILES = Tiles((4,))

ATTENTION_CHOICES = {
    TIME: [
        Tiles((64, 32), 4, 2),
        Tiles((64, 64), 4, 2),
        Tiles((64, 64), 4, 3),
        Tiles((64, 256), 8, 1),
        Tiles((128, 32), 4, 2),
        Tiles((128, 64), 4, 2),
        Tiles((128, 64), 8, 2),
        Tiles((128, 256), 8, 1),
        Tiles((256, 64), 8, 1),
    ],
    BANDS: [Tiles((64, 64), 4, 1), Tiles((64, 64), 8, 1), Tiles((64, 32), 4, 2)],
}
GELU_CHOICES = [
    Tiles((128, 128, 64), 8, 3),
    Tiles((128, 128, 64), 4, 4),
    Tiles((128, 256, 64), 8, 3),
    Tiles((128, 256, 64), 8, 4),
    Tiles((128, 256, 128), 8, 2),
    Tiles((64, 256, 64), 4, 4),
    Tiles((256, 128, 64), 8, 3),
]
NORM_CHOICES = [Tiles((1,), 1), Tiles((2,), 2), Tiles((4,), 4), Tiles((8,), 4), Tiles((16,), 8)]
