"""How a window of sound becomes stems: band-split RoFormers, their checkpoints and their separators."""
