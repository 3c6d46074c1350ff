"""How frames move: timelines, windows, overlap-add, mixing. NumPy and Numba only: never torch or a device."""
