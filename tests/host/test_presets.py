"""What each preset mutes and solos, and on which models it can."""

import pytest

from host.presets import PresetError, preset_switches

STEMS = ("vocals", "drums", "bass", "other")


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("karaoke", {("vocals", "mute")}),
        ("acapella", {("vocals", "solo"), ("residual", "mute")}),
        ("drumless", {("drums", "mute")}),
        ("bassless", {("bass", "mute")}),
    ],
)
def test_a_preset_sets_every_switch(name, on):
    switches = preset_switches(name, STEMS)
    assert {key for key, value in switches.items() if value} == on
    assert set(switches) == {(strip, knob) for strip in (*STEMS, "residual") for knob in ("mute", "solo")}


def test_a_stem_is_found_however_the_model_capitalises_it():
    assert preset_switches("karaoke", ("Vocals", "Instrumental"))[("Vocals", "mute")] is True


def test_a_model_without_the_stem_is_told_in_one_line():
    with pytest.raises(PresetError) as refusal:
        preset_switches("bassless", ("vocals", "instrumental"))
    assert str(refusal.value) == (
        "preset 'bassless' needs the stem 'bass', but this model gives vocals, instrumental; "
        "choose a model with that stem or mute strips one by one"
    )


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(PresetError, match="choose one of: karaoke, acapella, drumless, bassless"):
        preset_switches("polka", STEMS)
