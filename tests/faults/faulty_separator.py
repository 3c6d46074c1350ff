"""The separator process with a signature separator that fails once: `FAULT` says how, `FAULT_MARK` if it has.

All but the failing stage is the real process. The file `FAULT_MARK` outlives it, so that its replacement is
sound; with the fault `gone` every replacement ends at once.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from host import separator_process
from host.child import emit, run_child
from streaming.separator import SignatureSeparator

FAULT, MARK = os.environ["FAULT"], Path(os.environ["FAULT_MARK"])
if FAULT == "device lost" and not MARK.exists():  # nothing else has a second to spare for torch
    import torch

    from model.devices import device_errors

FAULTY_HOP = 100
NAN_HOPS = int(os.environ["FAULT_HOPS"])
SLEEP_S = 0.6


def raise_an_error() -> None:
    raise RuntimeError("the model broke")


class FaultySeparator(SignatureSeparator):
    """Fails at its hop `FAULTY_HOP`, counted over resets."""

    worked = 0

    def separate(self, mixture, stems_out):
        super().separate(mixture, stems_out)
        self.worked += 1
        if FAULT == "nan" and FAULTY_HOP <= self.worked < FAULTY_HOP + NAN_HOPS:
            stems_out[0, 0, 7] = np.nan
        if self.worked == FAULTY_HOP and FAULT in FAULTS:
            FAULTS[FAULT]()


def lose_the_device() -> None:
    with device_errors(torch.device("cuda")):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nPass CUDA_LAUNCH_BLOCKING=1.")


FAULTS = {
    "raises": raise_an_error,
    "device lost": lose_the_device,
    "gone": raise_an_error,
    "late": lambda: time.sleep(SLEEP_S),
    "hangs": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}

if __name__ == "__main__":
    if FAULT == "never starts" or (FAULT == "gone" and MARK.exists()):
        emit("error", reason="no such weights")
        sys.exit(2)
    if not MARK.exists():
        MARK.touch()
        separator_process.open_separator = lambda model, rate_hz, execution: FaultySeparator(rate_hz)
    sys.exit(run_child(separator_process.separate, sys.argv[1:]))
