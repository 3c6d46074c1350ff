"""How frames move: timelines, windows, overlap-add, mixing. numpy and numba only; never torch, never a device."""
