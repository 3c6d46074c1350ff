"""Read a pickled checkpoint where it can do no harm: `python -m host.import_child SOURCE TARGET`.

Only tensors come out, as a safetensors file. One line on stderr and exit code 2 say why not. The parent is
`host.model_import`; nothing of a pickle is ever read there.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from host.errors import USER_ERROR, one_line
from host.sandbox import confine, leave_network

if TYPE_CHECKING:
    from torch import Tensor

SPARE_BYTES = 1 << 30
UNKNOWN_NAME = re.compile(r"GLOBAL `?([\w.]+)")
MARGIN_NAMES = (
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")),
)


class WeightsError(ValueError):
    """A pickle that holds something else than weights; one line says what."""


class Margin:
    """Stands for what trainers leave beside the weights (`best_metric` and the like); keeps nothing of it."""

    def __init__(self, *values: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_weights(source: Path) -> dict[str, Tensor]:
    """The tensors of a pickled checkpoint under their plain names. Errors: WeightsError, PublishedError.

    Nothing that the file names is called: names outside of torch's own list end the reading, except those of
    NumPy's numbers, for which `Margin` stands in.
    """
    import torch

    from model.published import unwrap

    margins = torch.serialization.safe_globals([(Margin, name) for name in MARGIN_NAMES])
    with source.open("rb") as file, margins:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise WeightsError("it unpacks to far more than its size") from None
        except Exception as error:
            raise WeightsError(_reason(error)) from None
    return {name: tensor.detach() for name, tensor in unwrap(content).items()}


def _reason(error: Exception) -> str:
    """Why torch would not read a file, without the advice to trust it."""
    named = UNKNOWN_NAME.search(str(error))
    if named:
        return f"it holds {named.group(1)}, which is code and no weights; nothing of it was run"
    if "can't allocate" in str(error) or "not enough memory" in str(error):
        return "it unpacks to far more than its size"
    if "TorchScript" in str(error):
        return "it is a TorchScript program, not a table of weights"
    return "it is no whole checkpoint (truncated, or another kind of file)"


def write_weights(tensors: dict[str, Tensor], target: Path, most_bytes: int) -> None:
    """Write tensors as they are; tensors that show the same memory are written each for itself."""
    import torch
    from safetensors.torch import save_file

    if any(tensor.layout != torch.strided or tensor.is_quantized for tensor in tensors.values()):
        raise WeightsError("it holds sparse or quantised tensors; use the full-precision checkpoint")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > most_bytes:
        raise WeightsError("it unpacks to far more than its size")
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, target)


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 after a line on stderr."""
    leave_network()  # first: only a process without threads may
    source, target = Path(arguments[0]), Path(arguments[1])
    for module in ("torch", "model.published", "safetensors.torch"):  # before the walls go up
        importlib.import_module(module)
    warnings.simplefilter("ignore")
    size = source.stat().st_size
    confine(3 * size + SPARE_BYTES, 2 * size + SPARE_BYTES // 16, target.parent)
    try:
        write_weights(read_weights(source), target, 2 * size)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        print(one_line(error), file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
