"""The profiles of the built-in model: one network at the framings that DESIGN's table asks for.

Bands and sizes are the same in all, so that the weights of one can start the training of another.
"""

from model.config import WHOLE_SIGNAL, CausalConfig

PROFILES: dict[str, CausalConfig] = {
    "stage": CausalConfig(hop_frames=294),
    "live": CausalConfig(),
    "studio": CausalConfig(look_ahead_frames=8),
}
"""Profiles by name: 588, 882 and 4410 frames (13.3, 20 and 100 ms).

Why 8 spectral frames for `studio`: its 4410 frames are also what the windowed `gpu` profile takes, so one can
stand in for the other at the same latency; and of the 8192 frames that a studio may have, nearly half stay
for buffers, resampling and plugins.
"""

DEFAULT_PROFILE = "live"

DIAL = CausalConfig(look_aheads=(0, 2, 4, 8, 16, WHOLE_SIGNAL))
"""One network for every point between latency and quality; `with_look_ahead` chooses one."""

TRAINABLE: dict[str, CausalConfig] = PROFILES | {"dial": DIAL}
"""What `stembridge train --profile` takes."""
