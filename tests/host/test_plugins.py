"""Chain files, good and bad; chains as stages: equal to the chain offline at every hop and latency."""

import numpy as np
import pedalboard
import pytest

from host.plugins import EFFECTS, UNFIT, Chain, ChainError, build_effect, load_chains
from streaming.separator import Separator

RATE = 44100
STEMS = ("vocals", "drums", "bass", "other")
HOPS = (1, 64, 65, 128, 440, 441, 442)
LOUD = {
    "Bitcrush": {"bit_depth": 6},
    "BrickwallLimiter": {"ceiling_db": -12.0},
    "Chorus": {"rate_hz": 3.0, "feedback": 0.3},
    "Clipping": {"threshold_db": -12.0},
    "Compressor": {"threshold_db": -30, "ratio": 4, "attack_ms": 5.0},
    "Delay": {"delay_seconds": 0.02, "feedback": 0.5},
    "Distortion": {"drive_db": 12.0},
    "Gain": {"gain_db": -3.5},
    "HighShelfFilter": {"cutoff_frequency_hz": 3000, "gain_db": 6.0},
    "HighpassFilter": {"cutoff_frequency_hz": 200},
    "Invert": {},
    "LadderFilter": {"mode": "BPF24", "cutoff_hz": 800.0, "resonance": 0.5},
    "Limiter": {"threshold_db": -15.0},
    "LowShelfFilter": {"gain_db": -6.0, "q": 1.2},
    "LowpassFilter": {"cutoff_frequency_hz": 2500},
    "NoiseGate": {"threshold_db": -15.0},
    "PeakFilter": {"cutoff_frequency_hz": 1000, "gain_db": 9.0, "q": 2.0},
    "Phaser": {"rate_hz": 2.0, "depth": 0.9},
    "Reverb": {"room_size": 0.7, "wet_level": 0.5},
}
"""A setting of every effect that audibly changes the signal below."""

DESK = [{"plugin": name, **LOUD[name]} for name in ("Compressor", "BrickwallLimiter", "Chorus", "Reverb")]


def noise(frames, channels=2):
    return (0.4 * np.random.default_rng(3).standard_normal((channels, frames))).astype(np.float32)


def stage(tables, hop=441, channels=2):
    chain = Chain("vocals", tables, RATE, hop, channels)
    chain.warm_up()
    return chain


def run(chain, audio):
    """Every whole hop of `audio` through the chain, end to end."""
    out = np.empty((1, audio.shape[0], chain.hop_frames), np.float32)
    hops = []
    for start in range(0, audio.shape[1] - chain.hop_frames + 1, chain.hop_frames):
        chain.separate(audio[:, start : start + chain.hop_frames], out)
        hops.append(out[0].copy())
    return np.concatenate(hops, axis=1)


def offline(tables, audio):
    return pedalboard.Pedalboard([build_effect(table) for table in tables])(audio, RATE)


def test_every_effect_is_tried_here():
    assert set(LOUD) == set(EFFECTS)


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("hop", HOPS)
def test_streaming_is_the_offline_chain_to_the_bit(name, hop):
    tables = [{"plugin": name, **LOUD[name]}]
    chain = stage(tables, hop)
    audio = noise(3000)
    out, expected = run(chain, audio), offline(tables, audio)
    assert not np.array_equal(expected, audio)
    latency = chain.held_frames
    assert not out[:, :latency].any()
    assert np.array_equal(out[:, latency:], expected[:, : out.shape[1] - latency])


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("hop", HOPS)
def test_a_whole_desk_is_exact_too(hop, channels):
    chain, audio = stage(DESK[:2], hop, channels), noise(3000, channels)
    out, latency = run(chain, audio), chain.held_frames
    assert np.array_equal(out[:, latency:], offline(DESK[:2], audio)[:, : out.shape[1] - latency])


def test_a_desk_of_four_is_exact():
    chain, audio = stage(DESK), noise(RATE)
    out, latency = run(chain, audio), chain.held_frames
    assert np.array_equal(out[:, latency:], offline(DESK, audio)[:, : out.shape[1] - latency])


@pytest.mark.parametrize("name", EFFECTS)
def test_an_impulse_comes_out_at_the_declared_latency(name):
    """At its defaults every effect passes the dry signal: the first sample that sounds is the impulse."""
    chain, impulse = stage([{"plugin": name}]), np.zeros((2, 4410), np.float32)
    impulse[:, 0] = 0.5
    assert np.flatnonzero(run(chain, impulse)[0])[0] == chain.held_frames


def test_latency_is_the_look_ahead_of_all_effects():
    ahead = {"plugin": "BrickwallLimiter", "lookahead_ms": 10.0}
    assert stage([{"plugin": "Gain"}]).held_frames == 0
    assert stage([ahead]).held_frames == 441
    assert stage([ahead, {"plugin": "Reverb"}, ahead]).held_frames == 882


def test_hops_that_pedalboard_can_not_tell_from_channels_cost_a_larger_block():
    assert stage([{"plugin": "Gain"}], hop=1).held_frames == 2
    assert stage([{"plugin": "Gain"}], hop=2).held_frames == 2
    assert stage([{"plugin": "Gain"}], hop=3).held_frames == 0


@pytest.mark.parametrize("tables", [DESK, [{"plugin": "Delay"}], [{"plugin": "Phaser"}]])
def test_reset_makes_a_chain_new(tables):
    chain, audio = stage(tables), noise(10 * 441)
    first = run(chain, audio)
    for _ in range(3):
        chain.separate(noise(441), np.empty((1, 2, 441), np.float32))
    chain.reset()
    assert np.array_equal(run(chain, audio), first)


def test_input_that_is_not_finite_counts_as_silence():
    chain, audio = stage(DESK), noise(20 * 441)
    clean = audio.copy()
    audio[0, 5], audio[1, 700], audio[0, 1000] = np.nan, np.inf, -np.inf
    clean[0, 5] = clean[1, 700] = clean[0, 1000] = 0.0
    assert np.array_equal(run(chain, audio), run(stage(DESK), clean))


class Stumble:
    """Instead of a pedalboard: raises, or gives fewer frames than it took."""

    def __init__(self, outcome):
        self.outcome = outcome

    def reset(self):
        pass

    def process(self, block, rate, reset):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return block[:, : self.outcome]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(RuntimeError("out\nof order"), "out of order"), (1, "it gave fewer frames than it took")],
)
def test_a_chain_that_fails_answers_with_nan_and_says_why(outcome, reason):
    chain, out = stage(DESK[:1]), np.zeros((1, 2, 441), np.float32)
    chain._board = Stumble(outcome)
    chain.separate(noise(441), out)
    assert np.isnan(out).all()
    assert chain.failure == f"the chain of vocals failed: {reason}"


def test_a_chain_keeps_the_separator_contract():
    chain: Separator = Chain("bass", DESK, 48000, 480, 2)
    chain.warm_up()
    assert chain.stem_names == ("bass",)
    assert chain.hop_frames == chain.window_frames == 480
    assert (chain.sample_rate_hz, chain.latency_frames) == (48000, 480 + 240)
    chain.close()


# --- files -------------------


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "chains.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_chain_file_is_read_in_order(write):
    path = write(
        """
        [[chain.vocals]]
        plugin = "Compressor"
        ratio = 3
        [[chain.vocals]]
        plugin = "LadderFilter"
        mode = "HPF24"
        [[chain.drums]]
        plugin = "BrickwallLimiter"
        true_peak = true
        """
    )
    assert load_chains(path, STEMS) == {
        "vocals": [{"plugin": "Compressor", "ratio": 3}, {"plugin": "LadderFilter", "mode": "HPF24"}],
        "drums": [{"plugin": "BrickwallLimiter", "true_peak": True}],
    }


def effect(line):
    return f'[[chain.vocals]]\nplugin = "Gain"\n[[chain.vocals]]\n{line}\n'


BAD_FILES = {
    "empty": ("", "holds nothing; a chain file holds [[chain.STEM]] tables only"),
    "other tables": ("[mixer]\na = 1", "holds mixer; a chain file"),
    "not TOML": ("[[chain.vocals]\n", "is not valid TOML"),
    "not text": (b"\xff\xfe\x00", "is not valid TOML"),
    "bottomless": ("a = " + "[" * 100_000, "is not valid TOML"),
    "chain is a number": ("chain = 3", "a chain file holds"),
    "no stem": ("[chain]", "a chain file holds"),
    "unknown stem": (
        '[[chain.guitar]]\nplugin = "Gain"',
        "chain.'guitar' names no stem of this model; its stems are vocals, drums, bass, other",
    ),
    "residual": ('[[chain.residual]]\nplugin = "Gain"', "names no stem"),
    "single brackets": ('[chain.vocals]\nplugin = "Gain"', "write [[chain.vocals]] over each effect"),
    "no effects": ("[chain]\nvocals = []", "write [[chain.vocals]] over each effect"),
    "no plugin": (effect("room_size = 1"), "chain.vocals, effect 2: lacks its plugin; add a line like"),
    "plugin is a number": (effect("plugin = 3"), "lacks its plugin"),
    "unknown effect": (effect('plugin = "Reverbb"'), "there is no effect 'Reverbb'; use one of Bitcrush, "),
    "dangerous name": (effect('plugin = "__builtins__"'), "there is no effect"),
    "unknown parameter": (
        effect('plugin = "Reverb"\nsize = 1'),
        "effect 2 (Reverb): there is no parameter 'size'; it takes room_size, damping, ",
    ),
    "text for a number": (effect('plugin = "Gain"\ngain_db = "6"'), "must be a number from -60 to 24"),
    "switch for a number": (effect('plugin = "Gain"\ngain_db = true'), "must be a number"),
    "number for a switch": (effect('plugin = "BrickwallLimiter"\ntrue_peak = 1'), "must be true or false"),
    "unknown mode": (effect('plugin = "LadderFilter"\nmode = "X"'), "must be one of BPF12, BPF24, HPF12"),
    "NaN": (effect('plugin = "Gain"\ngain_db = nan'), "gain_db = nan is out of range; take -60 to 24"),
    "infinite": (effect('plugin = "Delay"\nmix = inf'), "mix = inf is out of range; take 0 to 1"),
    "too much": (effect('plugin = "Delay"\nfeedback = 1.0'), "is out of range; take 0 to 0.95"),
    "far too much": (effect(f'plugin = "Gain"\ngain_db = {10**400}'), "is out of range"),
    "a list for a number": (effect('plugin = "Gain"\ngain_db = [1]'), "must be a number"),
}


@pytest.mark.parametrize(("text", "reason"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_told_in_one_line(write, text, reason):
    path = write(text)
    with pytest.raises(ChainError) as refusal:
        load_chains(path, STEMS)
    said = str(refusal.value)
    assert said.startswith(f"{path}: ") and reason in said
    assert "\n" not in said


@pytest.mark.parametrize("name", UNFIT)
def test_effects_that_are_not_fit_are_refused_with_the_reason(write, name):
    with pytest.raises(ChainError, match=f"{name} .*use one of Bitcrush"):
        load_chains(write(effect(f'plugin = "{name}"')), STEMS)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ChainError, match=r"none\.toml: can not be read \(No such file or directory\)"):
        load_chains(tmp_path / "none.toml", STEMS)
    with pytest.raises(ChainError, match=r"can not be read \(Is a directory\)"):
        load_chains(tmp_path, STEMS)
