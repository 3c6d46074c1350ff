"""GPUs that can be used; where one cannot, or not any longer, why, in one line."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

_TOO_LITTLE = ("out of memory", "_alloc_failed", "allocation_failed", "cufft_internal_error")
"""As CUDA, Triton, cuBLAS, cuDNN and cuFFT say it; the last has no other word for it."""


class DeviceError(RuntimeError):
    """A GPU that is missing, too small or lost; one line says which, and what to do."""


def cuda_trouble(cuda: Any = torch.cuda) -> str:
    """Why no CUDA device can be used here; empty where one can.

    A driver that does not fit this torch shows as a warning and no device, or as an error of `init`.
    Threads: any.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if cuda.is_available():
                cuda.init()
                return _unsupported(cuda.get_device_capability(), cuda.get_arch_list())
        except (RuntimeError, AssertionError) as error:
            return first_line(error)
    if said:
        return first_line(said[-1].message)
    return "no NVIDIA GPU was found" if torch.version.cuda else "this torch has no CUDA in it"


def _unsupported(capability: tuple[int, int], built: Sequence[str]) -> str:
    """Why a torch built for such architectures has nothing to run on this one; empty where it has.

    A binary (sm_) runs on its own generation from its revision on, intermediate code (compute_) on all later.
    """
    for kind, _, number in (name.partition("_") for name in built):
        made_for = divmod(int(number.rstrip("af")), 10) if kind in ("sm", "compute") else capability
        if capability >= made_for and (kind != "sm" or capability[0] == made_for[0]):
            return ""
    return f"this torch is built for {', '.join(built)}, not for a GPU of {'.'.join(map(str, capability))}"


def chosen_device(name: str, cuda: Any = torch.cuda) -> str:
    """`auto` resolved to what this machine has; other names as they are.

    Raises DeviceError for "cuda" where there is none. Threads: any.
    """
    if name == "cpu":
        return name
    trouble = cuda_trouble(cuda)
    if not trouble:
        return "cuda"
    if name == "auto":
        return "cpu"
    raise _no_cuda(trouble)


def usable(name: str) -> torch.device:
    """The device of that name. Raises DeviceError where it is a GPU and none can be used. Threads: any."""
    device = torch.device(name)
    if device.type == "cuda" and (trouble := cuda_trouble(torch.cuda)):
        raise _no_cuda(trouble)
    return device


def _no_cuda(trouble: str) -> DeviceError:
    return DeviceError(
        f"No CUDA device can be used here ({trouble}): choose --device cpu, or see `stembridge doctor`."
    )


@contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
    """Turn what a GPU's driver says inside into DeviceErrors. Threads: any."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise DeviceError(
                f"{device}: too little memory; take a smaller model, fewer streams or pieces at a time,"
                " or --device cpu"
            ) from None
        if loss := _loss_of(device, error):
            raise DeviceError(
                f"{device} is lost to this process ({first_line(loss)}): start it again, or take --device cpu"
            ) from error
        raise


def _loss_of(device: torch.device, error: RuntimeError) -> RuntimeError | None:
    """What a lost GPU's driver says. Libraries on it tell of it in words of their own: then it is asked."""
    if isinstance(error, torch.AcceleratorError):
        return error
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except torch.AcceleratorError as said:
        return said
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether a driver or one of its libraries says that a GPU's memory is used up. Threads: any."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in words for said in _TOO_LITTLE)


def origin(error: BaseException) -> BaseException:
    """What went wrong first: ending a failed capture is an error of its own, which tells nothing.

    Threads: any.
    """
    while error.__context__ is not None:
        error = error.__context__
    return error


def first_line(said: object) -> str:
    """Drivers and torch go on with advice for debugging."""
    return (str(said).strip().splitlines() or [type(said).__name__])[0].rstrip(".")
