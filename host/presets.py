"""Mute and solo for a whole desk at once: what a preset means for the stems of the loaded model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RESIDUAL_NAME = "residual"
"""The strip of everything that no stem holds; a desk strip like a stem."""


class PresetError(ValueError):
    """A preset that does not exist, or does not fit the model's stems."""


@dataclass(frozen=True)
class Preset:
    """The stem that a preset is about, and which strips it mutes or solos."""

    stem: str
    mute: tuple[str, ...] = ()
    solo: tuple[str, ...] = ()


PRESETS = {
    "karaoke": Preset("vocals", mute=("vocals",)),
    "acapella": Preset("vocals", mute=(RESIDUAL_NAME,), solo=("vocals",)),
    "drumless": Preset("drums", mute=("drums",)),
    "bassless": Preset("bass", mute=("bass",)),
}
"""Karaoke keeps the residual, so nothing of the band is lost; acapella mutes it, so nothing of it is left."""


def preset_switches(name: str, stem_names: Sequence[str]) -> dict[tuple[str, str], bool]:
    """What a preset sets every mute and solo switch to; faders stay where they are.

    Returns
    -------
    dict
        ``(strip, "mute" or "solo") -> bool`` for every stem and the residual.

    Raises
    ------
    PresetError
        Unknown preset, or the model lacks the preset's stem.

    Threads: any.
    """
    if name not in PRESETS:
        raise PresetError(f"there is no preset '{name}'; choose one of: {', '.join(PRESETS)}")
    preset = PRESETS[name]
    spelled = {stem.casefold(): stem for stem in stem_names}
    if preset.stem not in spelled:
        raise PresetError(
            f"preset '{name}' needs the stem '{preset.stem}', but this model gives {', '.join(stem_names)}; "
            "choose a model with that stem or mute strips one by one"
        )
    strips = [*stem_names, RESIDUAL_NAME]
    return {
        (strip, switch): strip.casefold() in touched
        for switch, touched in (("mute", preset.mute), ("solo", preset.solo))
        for strip in strips
    }
