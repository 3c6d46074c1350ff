"""One training in many processes, as `torchrun` starts them: gradients are averaged, files written once."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from model.training.recipe import TrainingError

_PATIENCE = datetime.timedelta(hours=2)  # while the first process decodes recordings for all
_TORCHRUN = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


@dataclass(frozen=True)
class Ranks:
    """This process among all of a run. Threads: one at a time; all processes make the same calls."""

    rank: int
    size: int
    device: str

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def check_batch(self, items: int) -> None:
        """Raises TrainingError where the processes cannot take equal parts of so many items."""
        if items % self.size:
            raise TrainingError(
                f"a batch of {items} items cannot be shared by {self.size} processes; make it a multiple"
            )

    def share(self, indices: range) -> range:
        """This process's part of a batch; all parts one after the other are the batch."""
        part = len(indices) // self.size
        return indices[self.rank * part : (self.rank + 1) * part]

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader goes through the block before all others do."""
        if self.size > 1 and not self.leads:
            _exchange(torch.zeros(1, device=self.device))
        yield
        if self.size > 1 and self.leads:
            _exchange(torch.zeros(1, device=self.device))

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return here
        flag = torch.tensor(float(here), device=self.device)
        _exchange(flag)
        return bool(flag > 0)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over all processes, in one exchange."""
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        _exchange(flat)
        parts = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.detach().copy_(part.view_as(tensor))


@contextmanager
def ranks_of_run(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did; `device` is "cpu" or "cuda".

    Raises TrainingError where there is no such device.
    """
    rank, size, local = (int(os.environ.get(n, d)) for n, d in _TORCHRUN)
    device = _own_device(device, local)
    if size == 1:
        yield Ranks(0, 1, device)
        return
    try:
        distributed.init_process_group("nccl" if device != "cpu" else "gloo", timeout=_PATIENCE)
    except ValueError as error:
        raise TrainingError(
            f"not all that torchrun sets is set ({error}); start with torchrun, or unset WORLD_SIZE"
        ) from None
    try:
        yield Ranks(rank, size, device)
    finally:
        distributed.destroy_process_group()


def _own_device(device: str, local_rank: int) -> str:
    if device == "cpu":
        return device
    devices = torch.cuda.device_count()
    if local_rank >= devices:
        raise TrainingError(
            f"{devices} CUDA devices are usable here; start as many processes, or take the CPU"
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


def _exchange(tensor: Tensor) -> None:
    """Sum over all processes, in place. Raises TrainingError where one of them has ended."""
    try:
        distributed.all_reduce(tensor)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"another process of this run has ended; see what it said ({reason})") from None
