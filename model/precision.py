"""The precision of a network's products; what surrounds them stays in float32."""

from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["auto", "fp32", "fp16", "bf16"]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class PrecisionError(ValueError):
    """A precision that this machine does not have; one line says what to take instead."""


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype that a name stands for; "auto" is float16 on a GPU, float32 elsewhere.

    Raises PrecisionError for other names, and for bf16 on a GPU that has none or only emulates it.
    Threads: any.
    """
    if precision not in ("auto", *DTYPES):
        raise PrecisionError(f"no precision {precision!r:.40}: take auto, {', '.join(DTYPES)}")
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    asks_gpu = precision == "bf16" and device.type == "cuda"
    if asks_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise PrecisionError(f"{torch.cuda.get_device_name(device)} has no bf16; take --precision fp16")
    return DTYPES[precision]


def as_small_as_exact(weight: Tensor) -> Tensor:
    """In bfloat16 where that loses nothing, else as it is. Threads: any."""
    half = weight.bfloat16()
    return half if torch.equal(half.to(weight.dtype), weight) else weight


def settle_arithmetic() -> None:
    """What live work needs of torch: no slow denormals on a CPU; on a GPU, float32 products that are not
    shortened, and sums of lower ones in float32.

    Threads: denormals are a setting of the one that calls.
    """
    torch.set_flush_denormal(True)
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    matmul.allow_fp16_reduced_precision_reduction = matmul.allow_bf16_reduced_precision_reduction = False


def lower_products(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of all Linear layers, in place: attention and products then run in `dtype`.

    Norms, rotary tables, the residual stream, the STFT and the mask product stay in float32: squares of
    band inputs overflow float16, and positions in bfloat16 are wrong.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.to(dtype)
