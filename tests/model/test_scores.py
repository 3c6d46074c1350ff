"""Scores of held-out songs: what is compared, what is left out, what it amounts to, and who says so."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.baselines import band_pass
from model.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from model.config import CausalConfig
from model.header import CAUSAL_FORMAT
from model.metrics import chunk_median_sdr_db, si_sdr_db
from model.profiles import PROFILES
from model.training import card
from model.training.card import (
    BEGIN,
    END,
    Release,
    _shortfalls,
    card_text,
    committed,
    digest_of,
    framed_as,
    histories_of,
    measured_load,
    publish,
    renew_section,
    score,
    trained,
)
from model.training.evaluate import (
    BASELINES,
    PHRASES,
    REAL,
    SYNTHETIC,
    HeldOutSong,
    equalisers,
    estimates_of,
    evaluate,
    held_out_songs,
    score_song,
    scores_of,
    whole,
)
from model.training.score_tables import GATES, gate_lines, gates_of, means, readme_section, score_rows
from model.training.songs import STEM_NAMES
from tests.disk import disk_that_takes
from tests.model.builders import SMALL_LIVE, random_model
from tests.model.recorded import write_index, write_song

ROOT = Path(card.__file__).parents[2]
WEIGHTS = ROOT / "model" / "weights"


def held_out(seed=0, seconds=1.5, scored=STEM_NAMES, kind=SYNTHETIC):
    """Noise in four octaves of its own each, so that filters can find it."""
    rng = np.random.default_rng(seed)
    stems = 0.1 * rng.standard_normal((4, 2, int(44_100 * seconds)))
    spectrum, hz = np.fft.rfft(stems), np.fft.rfftfreq(stems.shape[-1], 1 / 44_100)
    for stem, (low, high) in enumerate(((300, 6000), (6000, 20_000), (40, 200), (200, 300))):
        spectrum[stem, :, (hz < low) | (hz > high)] = 0
    return HeldOutSong(
        f"song {seed}", np.fft.irfft(spectrum, stems.shape[-1]).astype(np.float32), scored, kind
    )


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def rows(model):
    models = {"a": whole(model), "b": whole(random_model())}
    return evaluate(models, [held_out(0), held_out(1), held_out(2, scored=("vocals",))])


def test_every_known_stem_is_scored_by_every_system(rows) -> None:
    known = [*STEM_NAMES, "accompaniment"]
    assert [row["stem"] for row in rows] == known + known + ["vocals", "accompaniment"]
    assert {key for row in rows for key in row} == {"set", "song", "stem", "a", "b", *BASELINES}
    assert all(row["band_pass"] is None for row in rows if row["stem"] in ("drums", "other"))
    assert all(row["a"] == row["b"] for row in rows)


def test_scores_are_those_of_the_metrics(rows, model) -> None:
    song = held_out(0)
    estimate = estimates_of(whole(model), song.mixture)["vocals"]
    assert rows[0]["a"]["si_sdr"] == pytest.approx(float(si_sdr_db(estimate, song.stems[0])), abs=0.006)
    band = band_pass(song.mixture, "vocals", 44_100)
    assert rows[0]["band_pass"]["si_sdr"] == pytest.approx(float(si_sdr_db(band, song.stems[0])), abs=0.006)


def test_sdr_is_the_median_of_the_windows_in_which_the_stem_is_heard() -> None:
    truth = np.random.default_rng(0).standard_normal((2, 5 * 44_100)).astype(np.float32)
    truth[:, 2 * 44_100 :] *= 1e-3
    error = np.repeat([0.1, 0.01, 1.0, 1.0, 1.0], 44_100).astype(np.float32)
    estimate = truth + error * np.random.default_rng(1).standard_normal(truth.shape).astype(np.float32)
    assert scores_of(estimate, truth)["sdr"] == pytest.approx((20 + 40) / 2, abs=0.1)
    both = chunk_median_sdr_db(estimate[None, :, : 2 * 44_100], truth[None, :, : 2 * 44_100], 44_100)
    assert scores_of(estimate, truth)["sdr"] == pytest.approx(float(both[0]), abs=0.006)
    assert scores_of(None, truth) is None
    assert scores_of(np.zeros_like(truth), truth)["sdr"] is None
    assert scores_of(truth[:, :100], truth[:, :100]) == {"si_sdr": 100.0, "sdr": 100.0}


def test_oracle_and_equaliser_hear_more_than_the_mixture(rows) -> None:
    """Where stems lie apart in the spectrum, even an equaliser fitted on other songs takes them apart."""
    for row in rows[:5]:
        assert row["oracle"]["si_sdr"] > row["mixture"]["si_sdr"] + 10
        assert row["static_eq"]["si_sdr"] > row["mixture"]["si_sdr"] + 6
    assert rows[4]["stem"] == "accompaniment"
    assert rows[4]["band_pass"]["si_sdr"] > rows[4]["mixture"]["si_sdr"] + 4


def test_the_equaliser_never_sees_the_song_that_it_is_scored_on() -> None:
    songs = [held_out(seed, 0.5) for seed in (0, 1, 2)]
    changed = [held_out(7, 0.5), *songs[1:]]
    for stem in STEM_NAMES:
        np.testing.assert_array_equal(equalisers(songs)[0][stem], equalisers(changed)[0][stem])
        assert not np.array_equal(equalisers(songs)[1][stem], equalisers(changed)[1][stem])
    assert equalisers(songs[:1]) == [{}]


def test_a_song_without_vocals_scores_no_accompaniment(model) -> None:
    song = held_out()
    song.stems[0] = 0.0
    assert [row["stem"] for row in evaluate({"m": whole(model)}, [song])] == ["drums", "bass", "other"]


def test_a_model_of_two_stems_is_scored_on_both(rows) -> None:
    torch.manual_seed(0)
    two = random_model(CausalConfig.from_dict(SMALL_LIVE.to_dict() | {"stem_names": ["vocals", "rest"]}))
    found = evaluate({"two": whole(two)}, [held_out()])
    assert [row["stem"] for row in found if row["two"]] == ["vocals", "accompaniment"]
    assert [row["mixture"] for row in found] == [row["mixture"] for row in rows[:5]]


def test_an_excerpt_is_where_the_voice_is_loudest() -> None:
    song = held_out(seconds=3.0)
    song.stems[0, :, :44_100] = 0.0
    assert song.excerpt(2.0).stems.shape[-1] == 2 * 44_100
    np.testing.assert_array_equal(song.excerpt(2.0).stems, song.stems[..., 44_100:])
    np.testing.assert_array_equal(song.excerpt(9.0).stems, song.stems)
    after = song.excerpt(1.0, lead_in_s=1.5)
    np.testing.assert_array_equal(
        np.concatenate([after.lead_in, after.mixture], axis=1), song.mixture[:, :110_250]
    )


def test_what_comes_before_is_heard_and_not_scored() -> None:
    heard = []

    def separate(mixture):
        heard.append(mixture)
        return {"vocals": mixture, "other": 0 * mixture}

    song = held_out()
    whole_rows = score_song({"all": separate}, song, {})
    lead_in = np.ones((2, 1000), np.float32)
    rows = score_song({"all": separate}, dataclasses.replace(song, lead_in=lead_in), {})
    assert rows == whole_rows
    np.testing.assert_array_equal(heard[1], np.concatenate([lead_in, heard[0]], axis=1))


def test_progress_says_what_is_left(model) -> None:
    lines = []
    evaluate({"m": whole(model)}, [held_out(0, 0.5), held_out(1, 0.5)], lines.append)
    assert [line.split(" (")[0] for line in lines[1:]] == ["1/2 song 0", "2/2 song 1"]
    assert lines[2].endswith(" s left")


def row(kind, song, stem, model, **baselines):
    """A row of SI-SDR figures; the others have no say in gates."""
    values = {"mixture": 0.0, "band_pass": 0.0, "static_eq": 0.0, "oracle": 20.0, "m": model} | baselines
    scores = {name: None if v is None else {"si_sdr": v, "sdr": v} for name, v in values.items()}
    return {"set": kind, "song": song, "stem": stem, **scores}


def met(rows):
    return {gate["gate"].split(":")[0]: gate["met"] for gate in gates_of(rows, "m")}


def test_gates_take_the_better_baseline_of_every_song() -> None:
    """Gains of 5 and 1 dB over the better one: 3 in the mean."""
    table = [
        row(REAL, "x", "vocals", 5.0, mixture=0.0, band_pass=-9.0),
        row(REAL, "y", "vocals", 2.0, mixture=-9.0, band_pass=1.0),
    ]
    assert met(table) == {"real songs, vocals": True}
    table[1]["m"]["si_sdr"] = 1.9
    assert met(table) == {"real songs, vocals": False}


def test_a_gate_of_every_song_is_missed_by_one() -> None:
    table = [row(REAL, "x", "vocals", 9.0), row(REAL, "y", "vocals", -0.1)]
    assert met(table) == {"real songs, vocals": False}
    assert gates_of(table, "m")[0]["worst_song"] == "y"
    assert met([{**line, "set": SYNTHETIC} for line in table]) == {"synthetic songs, vocals": True}


def test_every_gate_has_its_set_stem_and_baseline() -> None:
    table = [
        row(REAL, "x", "accompaniment", 1.6, band_pass=0.2),
        row(SYNTHETIC, "s", "drums", 4.0, band_pass=None),
        row(SYNTHETIC, "s", "bass", 4.0, band_pass=9.0),
        row(PHRASES, "p", "vocals", -50.0),
        row(SYNTHETIC, "s", "other", -50.0),
    ]
    assert met(table) == {
        "real songs, accompaniment": False,
        "synthetic songs, drums": True,
        "synthetic songs, bass": True,
    }
    lines = gate_lines({"m": gates_of(table, "m")})
    assert [line.split(",")[0] for line in lines] == ["m: short", "m: pass", "m: pass"]
    assert len({str(gate) for gate in GATES}) == len(GATES)


def test_means_are_by_set_and_need_every_song() -> None:
    table = [row(REAL, "x", "vocals", 1.0), row(REAL, "y", "vocals", 2.0), row(PHRASES, "p", "vocals", 8.0)]
    first, second = means(table)
    assert (first["set"], first["m"]) == (REAL, {"si_sdr": 1.5, "sdr": 1.5})
    assert second["m"]["si_sdr"] == 8.0
    table[0]["m"] = None
    assert means(table)[0]["m"] is None
    assert means(table)[0]["mixture"] is not None


def test_tables_have_a_line_for_every_row(rows) -> None:
    lines = score_rows(rows, ["a", "b"]).splitlines()
    assert len(lines) == len(rows) + 2
    assert {line.count("|") for line in lines} == {9}
    for figures in (rows[0]["a"], rows[0]["mixture"]):
        assert f"| {figures['si_sdr']:.1f} / {figures['sdr']:.1f} |" in lines[2]


def test_the_card_tells_where_a_model_is_below_something_plain_by_either_score() -> None:
    good, bad, none = ({"si_sdr": x, "sdr": y} for x, y in ((3.0, 3.0), (2.0, 4.0), (None, None)))
    plain = {"mixture": good, "band_pass": good, "static_eq": None}
    rows = [
        {"song": "one", "stem": "vocals", "m": bad, **plain, "band_pass": bad},
        {"song": "two", "stem": "drums", "m": {"si_sdr": 5.0, "sdr": 1.0}, **plain},
        {"song": "three", "stem": "bass", "m": none, **plain},
        {"song": "four", "stem": "bass", "m": None, **plain},
    ]
    assert _shortfalls(rows, "m").splitlines() == [
        "- `m` is below the unprocessed mixture in SI-SDR on: one (vocals).",
        "- `m` is below the unprocessed mixture in SDR on: two (drums).",
        "- `m` is below a plain band-pass in SDR on: two (drums).",
    ]


@pytest.fixture
def weights(tmp_path, model):
    """A folder of two published models, two folders below a README with markers."""
    (tmp_path / "README.md").write_text(f"# before\n\n{BEGIN}\nold\n{END}\n\n# after\n")
    folder = tmp_path / "model" / "weights"
    releases = {"builtin-live": Release(model, 10, 0.5), "builtin-stage": Release(model, 20, 1.0)}
    publish(releases, score(releases, [held_out(kind=REAL)], {}, print), folder, 1.5, {})
    return folder


def test_publishing_writes_weights_card_scores_and_readme(weights, model) -> None:
    table = json.loads((weights / "scores.json").read_text())
    page = (weights.parents[1] / "README.md").read_text()
    assert page.startswith("# before\n")
    assert page.endswith(f"{END}\n\n# after\n")
    assert readme_section(table) in page
    assert "old" not in page
    text = (weights / "MODEL_CARD.md").read_text()
    assert "`stage`: Trained for 20 steps" in text
    network, own = load_checkpoint(weights / "builtin-live.safetensors")
    assert "`live`: Trained" in own.text and "`stage`" not in own.text
    for name, weight in model.state_dict().items():
        assert torch.equal(network.state_dict()[name], weight), name


@pytest.mark.parametrize(("name", "most_bytes"), [("MODEL_CARD.md", 1000), ("scores.json", 50_000)])
def test_what_is_published_is_whole_or_as_it_was(weights, name, most_bytes) -> None:
    releases, table = committed(weights), json.loads((weights / "scores.json").read_text())
    before = {path.name: path.read_bytes() for path in weights.iterdir()}
    with pytest.raises(OSError), disk_that_takes(most_bytes):
        publish(releases, table | {"long": "x" * 100_000}, weights, 1.5, {})
    assert {path.name: path.read_bytes() for path in weights.iterdir()} == before, name


def test_committed_models_are_scored_again_to_the_same(weights) -> None:
    before = {path.name: path.read_bytes() for path in weights.iterdir()}
    releases = committed(weights)
    publish(releases, score(releases, [held_out(kind=REAL)], {}, print), weights, 1.5, {})
    assert {path.name: path.read_bytes() for path in weights.iterdir()} == before


def test_weights_that_no_scores_know_are_refused_unless_replaced(weights, model) -> None:
    save_checkpoint(weights / "builtin-new.safetensors", model, ModelCard("CC0-1.0", "test", "text"))
    with pytest.raises(card.PublishError, match=r"builtin-new\.safetensors: not in scores\.json"):
        committed(weights)
    assert sorted(committed(weights, {"builtin-new"})) == ["builtin-live", "builtin-stage"]


def saved_by(network, **changes) -> dict:
    """What a training of this network leaves, as far as publishing reads it."""
    kept = {"format": CAUSAL_FORMAT, "config": network.config.to_dict(), "ema": network.state_dict()}
    return kept | {"step": 1, "batch": 1} | changes


def test_a_training_is_published_with_its_averaged_weights(tmp_path, model) -> None:
    torch.save(saved_by(model, step=100, batch=4), tmp_path / "training.pt")
    release = trained(str(tmp_path))
    assert (release.steps, release.hours) == (100, pytest.approx(400 * 2.55 / 3600))
    assert release.network.config == SMALL_LIVE
    with pytest.raises(card.PublishError, match=r"training\.pt"):
        trained(str(tmp_path / "missing"))


def test_a_dial_is_published_at_one_of_its_look_aheads(tmp_path) -> None:
    dial = random_model(dataclasses.replace(SMALL_LIVE, look_aheads=(0, 8)))
    torch.save(saved_by(dial), tmp_path / "training.pt")
    names = [framed_as(trained(f"{tmp_path}{at}").network.config) for at in ("", "@0", "@8")]
    assert names == ["builtin-live", "builtin-live", "builtin-studio"]
    with pytest.raises(card.PublishError, match="@3: the network knows look-aheads of 0, 8, not 3"):
        trained(f"{tmp_path}@3")
    with pytest.raises(
        card.PublishError, match=r"@x/training\.pt: .* give a training as FOLDER or FOLDER@FRAMES"
    ):
        trained(f"{tmp_path}@x")


def test_a_training_is_named_by_its_framing() -> None:
    for profile, config in PROFILES.items():
        assert framed_as(dataclasses.replace(config, dim=32, depth=1)) == f"builtin-{profile}"
    with pytest.raises(card.PublishError, match="hop 147, look-ahead 0: no profile has this framing"):
        framed_as(dataclasses.replace(CausalConfig(), hop_frames=147))


def test_a_load_counts_for_the_weights_that_were_measured() -> None:
    network = random_model()
    measured = digest_of(network.state_dict())
    loads = {"m": {"sha256": measured, "load_p50": 0.3}}
    assert measured_load(loads, "m", measured)["load_p50"] == 0.3
    assert measured_load(loads, "m", digest_of(network.round_band_weights().state_dict())) is None
    assert measured_load(loads, "other", measured) is None


def test_the_loads_of_the_committed_table_were_measured_of_these_weights() -> None:
    loads = json.loads((WEIGHTS / "hop_times.json").read_text())
    for name, facts in json.loads((WEIGHTS / "scores.json").read_text())["models"].items():
        assert facts["load"] == measured_load(loads, name, facts["sha256"]) is not None


def test_a_page_without_markers_is_left_alone(tmp_path) -> None:
    page = tmp_path / "README.md"
    renew_section(page, "x")
    assert not page.exists()
    page.write_text(f"{BEGIN} but no end")
    renew_section(page, "x")
    assert page.read_text() == f"{BEGIN} but no end"


def test_a_page_is_whole_or_as_it_was(tmp_path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"{BEGIN}\nold\n{END}")
    with pytest.raises(UnicodeEncodeError):
        renew_section(page, "new \ud800")
    assert page.read_text() == f"{BEGIN}\nold\n{END}"


def test_one_command_publishes_a_training_and_scores_what_is_there(
    weights, tmp_path, model, monkeypatch, capsys
) -> None:
    stage = random_model(dataclasses.replace(SMALL_LIVE, hop_frames=294))
    torch.save(saved_by(stage, step=7), tmp_path / "training.pt")
    monkeypatch.setattr(card, "held_out_songs", lambda audio, cache, tell, seconds: [held_out(kind=REAL)])
    arguments = ["--training", str(tmp_path), "--audio", "any", "--weights", str(weights), "--seconds", "2"]
    monkeypatch.setattr(sys, "argv", ["card", *arguments])
    card.main()
    told = json.loads((weights / "scores.json").read_text())
    assert {name: facts["steps"] for name, facts in told["models"].items()} == {
        "builtin-live": 10,
        "builtin-stage": 7,
    }
    assert load_checkpoint(weights / "builtin-stage.safetensors")[0].config.hop_frames == 294
    said = capsys.readouterr()
    assert "1/1 song 0" in said.err
    assert gate_lines(told["gates"])[0] in said.out


def refusal(arguments, monkeypatch, capsys):
    """What the command says when it ends with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["card", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        card.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--weights", "none"), "required: --audio"),
        (("--weights", "none", "--audio", "none"), "no builtin-"),
        (("--weights", "none", "--audio", "none", "--seconds", "nan"), "from 1 to 3600 seconds, not 'nan'"),
        (("--weights", "none", "--audio", "none", "--training", "none@x"), "FOLDER@FRAMES"),
    ],
)
def test_errors_are_one_line(arguments, said, monkeypatch, capsys) -> None:
    assert said in refusal(arguments, monkeypatch, capsys)


def test_a_missing_library_is_one_line(weights, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("model.training.evaluate.song", None)  # none is made in vain
    arguments = ["--weights", weights, "--audio", tmp_path / "none"]
    assert "none: has no files.tsv" in refusal(arguments, monkeypatch, capsys)


def test_broken_histories_are_one_line_before_anything_is_scored(weights, monkeypatch, capsys) -> None:
    (weights / "histories.toml").write_text("builtin-live = ")
    said = refusal(["--weights", weights, "--audio", "none"], monkeypatch, capsys)
    assert "histories.toml: not TOML" in said


@pytest.mark.parametrize("text", ["{", "[]", '{"models": {"builtin-live": {}}}'])
def test_broken_scores_are_one_line(weights, text, monkeypatch, capsys) -> None:
    (weights / "scores.json").write_text(text)
    assert "scores.json" in refusal(["--weights", weights, "--audio", "none"], monkeypatch, capsys)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": None},
        {"config": [1]},
        {"config": {"dim": 0}},
        {"config": {"bands": 3}},
        {"ema": [1]},
        {"ema": {"x": 1}},
        {"ema": {"x": torch.zeros(3)}},
        {"ema": random_model(dataclasses.replace(SMALL_LIVE, mask_hidden=9)).state_dict()},
        {"recipe": [1]},
    ],
)
def test_a_broken_training_is_one_line(tmp_path, model, changes, monkeypatch, capsys) -> None:
    torch.save(saved_by(model, **changes), tmp_path / "training.pt")
    arguments = ["--weights", tmp_path, "--audio", "none", "--training", tmp_path]
    assert str(tmp_path) in refusal(arguments, monkeypatch, capsys)


@pytest.mark.parametrize("content", [[1], {"step": 1}, b"", b"no checkpoint", b"\x80\x02."])
def test_what_is_no_training_is_one_line(tmp_path, content, monkeypatch, capsys) -> None:
    path = tmp_path / "training.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    arguments = ["--weights", tmp_path, "--audio", "none", "--training", tmp_path]
    assert "training.pt: not a training checkpoint" in refusal(arguments, monkeypatch, capsys)


def test_synthesised_songs_come_without_a_library(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("model.training.evaluate._SYNTHETIC_SONGS", 1)
    said: list[str] = []
    (song,) = held_out_songs(None, tmp_path, said.append, seconds=1.0)
    assert said == []
    assert (song.kind, song.stems.shape) == (SYNTHETIC, (4, 2, 44_100))


def test_songs_that_are_not_scored_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("model.training.evaluate._SYNTHETIC_SONGS", 0)
    for name in ("multitracks/act/good", "multitracks/act/bad"):
        write_song(tmp_path / name, suffix=".flac")
    (tmp_path / "multitracks/act/bad/drums.flac").write_bytes(b"not audio")
    write_index(tmp_path, lambda path: "test")
    said: list[str] = []
    songs = held_out_songs(tmp_path, tmp_path / "cache", said.append)
    assert [song.name for song in songs] == ["good"]
    assert len(said) == 1
    assert said[0].startswith(f"left out: {tmp_path}/multitracks/act/bad/drums.flac: cannot be read")


def test_the_card_says_what_scores_json_says() -> None:
    table = json.loads((WEIGHTS / "scores.json").read_text())
    text = card_text(table, 30.0, histories_of(WEIGHTS))
    assert (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8") == text


def test_ctrl_c_ends_without_a_traceback(monkeypatch, capsys) -> None:
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["card", "--weights", "none", "--audio", "none"])
    monkeypatch.setattr(card, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        card.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "")


def test_the_readme_says_what_scores_json_says() -> None:
    table = json.loads((WEIGHTS / "scores.json").read_text())
    assert f"{BEGIN}\n\n{readme_section(table)}\n\n{END}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_digest_is_of_names_shapes_and_bytes_in_any_order() -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    told = digest_of(weights)
    assert digest_of(dict(reversed(weights.items()))) == told
    changed = weights["a"].clone()
    changed[1, 2] = changed[1, 2].nextafter(torch.tensor(9.0))
    others = [{"a": changed}, {"a": weights["a"].reshape(3, 2)}, {"c": weights["b"]}]
    assert len({told, *(digest_of(weights | other) for other in others)}) == 4


def test_scores_json_is_consistent_and_of_the_committed_weights() -> None:
    table = json.loads((WEIGHTS / "scores.json").read_text())
    assert list(table["models"]) == sorted(path.stem for path in WEIGHTS.glob("builtin-*.safetensors"))
    for name, release in committed(WEIGHTS).items():
        assert table["gates"][name] == gates_of(table["rows"], name)
        assert release.facts().items() <= table["models"][name].items()
        assert table["models"][name]["sha256"] == digest_of(release.network.state_dict())
