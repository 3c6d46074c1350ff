"""The mix as words on the command line."""

import pytest

from model.training.mix import Mix, MixError, parse_mix


def test_what_is_not_named_keeps_its_default():
    mix = parse_mix("background=0.5, vocals_alone=0")
    assert (mix.background, mix.vocals_alone) == (0.5, 0.0)
    assert mix.voices == Mix().voices and mix.recorded == Mix().recorded


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("drums=1", "drums' is unknown; choose from background"),
        ("", "is unknown"),
        ("background", "background must be a number, not ''"),
        ("background=much", "must be a number, not 'much'"),
        ("background=-1", "at least 0, not -1"),
        ("background=nan", "at least 0, not nan"),
        ("background=inf", "at least 0, not inf"),
        ("background=1,background=2", "given twice"),
        ("without_vocals=0.9,vocals_alone=0.2", "at most 1"),
        ("background=0,recorded=0,sequenced=0,synthetic=0", "are all 0"),
        ("singing=0,speech=0,recorded_voice=0,synthetic_voice=0", "singing, recorded, synthetic, speech are"),
    ],
)
def test_impossible_mixes_are_refused_in_one_line(text, reason):
    with pytest.raises(MixError, match=reason) as raised:
        parse_mix(text)
    assert "\n" not in str(raised.value)
