"""What is compiled once for a machine, and whether it is."""

from streaming.compiled import is_cached

PARTS = (("callback", "_stream_callback"), ("kernels", "separate"))
"""The audio callback, and the hop of the built-in model: the last function of each to be compiled."""


def cache_is_warm() -> bool:
    """Whether all of it lies ready; if not, the first use takes up to a minute."""
    return all(is_cached(*part) for part in PARTS)
