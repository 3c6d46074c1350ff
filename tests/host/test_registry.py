"""The table of controls: what it takes, refuses, clamps, tells and restores."""

import math

import pytest

from host.registry import CLOSED_DB, ControlError, Registry, path_name
from streaming.snapshot import RESIDUAL

STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture
def registry() -> Registry:
    return Registry(STEMS)


def heard(registry: Registry) -> list[tuple]:
    """A list that fills with every change from now on."""
    changes: list[tuple] = []
    registry.listen(lambda *change: changes.append(change))
    return changes


def test_every_strip_and_the_desk_are_in_the_table(registry):
    strips = {f"/stem/{name}/{knob}" for name in (*STEMS, "residual") for knob in ("gain_db", "mute", "solo")}
    desk = {"/bypass", "/fallback", "/output/gain_db", "/preset/load"}
    status = {f"/status/{key}" for key in ("latency_ms", "load", "late_hops", "xruns")}
    assert set(registry.controls) == strips | desk | status
    assert all(row.doc for row in registry.controls.values())


def test_faders_are_clamped_and_kept(registry):
    assert registry.set("/stem/vocals/gain_db", 40) == 10.0
    assert registry.set("/stem/vocals/gain_db", -1e9) == CLOSED_DB
    assert registry.set("/stem/vocals/gain_db", -6.5) == -6.5
    assert registry.get("/stem/vocals/gain_db") == -6.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "6", True, None, [1], b"1"])
def test_a_fader_refuses_what_is_no_finite_number(registry, value):
    registry.set("/stem/bass/gain_db", -3.0)
    with pytest.raises(ControlError, match="/stem/bass/gain_db takes a"):
        registry.set("/stem/bass/gain_db", value)
    assert registry.get("/stem/bass/gain_db") == -3.0


@pytest.mark.parametrize("value", [True, 1, 1.0])
def test_a_switch_takes_numbers(registry, value):
    assert registry.set("/stem/bass/mute", value) is True
    assert registry.set("/stem/bass/mute", type(value)(0)) is False


@pytest.mark.parametrize("value", [2, 0.5, -1, math.nan, "on", None])
def test_a_switch_refuses_everything_else(registry, value):
    with pytest.raises(ControlError, match="takes true or false"):
        registry.set("/bypass", value)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (
            "/stem/guitar/mute",
            1,
            "no control '/stem/guitar/mute'; stems here: vocals, drums, bass, other, residual",
        ),
        ("/stem/*/mute", 1, "no control"),
        ("", 1, "no control"),
        ("/fallback", "loud", "takes one of dry, silence"),
        ("/fallback", 1, "takes one of dry, silence"),
        ("/status/load", 0.0, "can only be read"),
        ("/preset/load", "polka", "takes one of karaoke, acapella, drumless, bassless"),
    ],
)
def test_refusals_say_what_is_possible(registry, path, value, reason):
    with pytest.raises(ControlError, match=r"(?s)^[^\n]*$") as refusal:
        registry.set(path, value)
    assert reason in str(refusal.value)


def test_changes_are_told_once_in_order_with_their_writer(registry):
    changes = heard(registry)
    registry.set("/bypass", 1, "a")
    registry.set("/bypass", True, "b")
    registry.set("/stem/drums/gain_db", 11, "b")
    registry.report("load", 0.25)
    assert changes == [
        ("/bypass", True, "a"),
        ("/stem/drums/gain_db", 10.0, "b"),
        ("/status/load", 0.25, None),
    ]


def test_a_preset_moves_switches_for_everybody_and_leaves_faders(registry):
    registry.set("/stem/vocals/gain_db", -20.0)
    registry.set("/stem/bass/solo", 1)
    changes = heard(registry)
    registry.set("/preset/load", "karaoke", "a")
    assert changes == [
        ("/stem/vocals/mute", True, None),
        ("/stem/bass/solo", False, None),
        ("/preset/load", "karaoke", "a"),
    ]
    assert registry.get("/stem/vocals/gain_db") == -20.0


def test_a_preset_that_does_not_fit_changes_nothing():
    registry = Registry(("vocals", "instrumental"))
    before = dict(registry.values)
    with pytest.raises(
        ControlError, match="needs the stem 'drums', but this model gives vocals, instrumental"
    ):
        registry.set("/preset/load", "drumless")
    assert registry.values == before


def test_the_record_holds_linear_gains_and_switches(registry):
    registry.set("/stem/drums/gain_db", 20 * math.log10(0.5))
    registry.set("/stem/residual/gain_db", CLOSED_DB)
    registry.set("/stem/residual/mute", 1)
    registry.set("/stem/bass/solo", 1)
    registry.set("/output/gain_db", 20 * math.log10(2))
    registry.set("/fallback", "silence")
    row = registry.record()[0]
    assert row["strip_gain"][:4].tolist() == pytest.approx([1.0, 0.5, 1.0, 1.0])
    assert row["strip_gain"][RESIDUAL] == 0.0
    assert row["strip_mute"].nonzero()[0].tolist() == [RESIDUAL]
    assert row["strip_solo"].nonzero()[0].tolist() == [2]
    assert row["output_gain"] == pytest.approx(2.0)
    assert (row["bypass"], row["fallback_silence"]) == (0, 1)


def test_a_second_registry_takes_everything_over_from_the_record(registry):
    writes = {
        "/stem/vocals/gain_db": -6.1,
        "/stem/drums/gain_db": CLOSED_DB,
        "/stem/residual/gain_db": 10.0,
        "/stem/other/mute": True,
        "/stem/bass/solo": True,
        "/bypass": True,
        "/fallback": "silence",
        "/output/gain_db": -0.5,
    }
    for path, value in writes.items():
        registry.set(path, value)
    successor = Registry(STEMS)
    successor.from_record(registry.record())
    assert successor.values == registry.values
    assert successor.record().tobytes() == registry.record().tobytes()


def test_stem_names_become_paths_that_osc_can_carry():
    assert path_name("lead vocals #1") == "lead_vocals__1"
    assert Registry(("lead vocals",)).set("/stem/lead_vocals/mute", 1) is True


@pytest.mark.parametrize("stems", [("a b", "a_b"), ("residual",), [f"s{i}" for i in range(16)]])
def test_stems_that_the_desk_can_not_hold_are_refused(stems):
    with pytest.raises(ControlError, match=r"stem"):
        Registry(stems)
