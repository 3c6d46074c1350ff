"""`stembridge evaluate`: scores that can be worked out by hand, and one line for every mistake."""

import io
import json
import math
import os
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from host.audio_files import write_audio
from host.errors import UserError
from host.evaluate import EvaluateError, Target, _bounded, evaluate, score_song, targets
from host.listening import excerpt
from host.musdb import STEMS, TrueSong, read_song, song_folders, unscored_folders
from host.renderers import Renderer
from host.score_report import as_table, picture_of, summarise
from model.metrics import sdr_db
from tests.model.recorded import cut

RATE_HZ = 8000
FRAMES = 4 * RATE_HZ + 100


def true_stems(seed=0):
    rng = np.random.default_rng(seed)
    return {name: 0.1 * rng.standard_normal((2, FRAMES), dtype=np.float32) for name in STEMS}


def write_song(folder, stems, rate_hz=RATE_HZ):
    for name, audio in stems.items():
        write_audio(folder / f"{name}.wav", audio, rate_hz)


def run(*arguments):
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def assert_one_line(result, *words):
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr


@pytest.fixture
def data(tmp_path):
    for number, name in enumerate(("A song", "B [song]")):
        write_song(tmp_path / "songs" / "test" / name, true_stems(number))
    return tmp_path / "songs"


def mixed(scale_of, song):
    """A renderer whose stems are the true ones plus an error of -20 dB, times a scale for each name."""
    noise = 0.01 * np.random.default_rng(9).standard_normal((2, FRAMES))

    def separated(pieces):
        assert sum(piece.shape[1] for piece in pieces) == FRAMES
        yield np.stack([(s * (song.stems[n] + noise)).astype(np.float32) for n, s in scale_of.items()])

    return Renderer(tuple(scale_of), 2, RATE_HZ, separated)


def test_every_measure_says_what_it_stands_for() -> None:
    stems = true_stems()
    song = TrueSong(RATE_HZ, sum(stems.values()), stems)
    renderer = mixed({"vocals": 1.0, "bass": 0.5}, song)
    vocals, bass = score_song(song, renderer, targets(("vocals", "bass"), (), "m"), True, lambda done: None)
    assert [vocals["stem"], bass["stem"]] == ["vocals", "bass"]
    assert list(vocals["model"].values()) == pytest.approx([20.0] * 3, abs=0.2)
    assert bass["model"]["si_sdr"] == pytest.approx(20.0, abs=0.2)
    assert bass["model"]["usdr"] == pytest.approx(20 * np.log10(2), abs=0.2)
    assert vocals["mixture"]["usdr"] == pytest.approx(-10 * np.log10(3), abs=0.1)
    expected = float(sdr_db(song.mixture, stems["vocals"]))
    assert vocals["mixture"]["usdr"] == pytest.approx(expected, abs=1e-4)
    assert vocals["oracle"]["sdr"] > vocals["mixture"]["sdr"] + 3
    assert bass["band_pass"] is not None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (STEMS, [(name, (name,), (place,)) for place, name in enumerate(STEMS)]),
        (("Drums", "Vocals"), [("drums", ("drums",), (0,)), ("vocals", ("vocals",), (1,))]),
        (("vocals", "other"), [("vocals", ("vocals",), (0,)), ("other", ("drums", "bass", "other"), (1,))]),
        (("other",), [("other", ("other",), (0,))]),
        (("instrumental",), [("instrumental", ("drums", "bass", "other"), (0,))]),
        (
            ("bass", "drums", "other", "vocals", "guitar", "piano"),
            [
                ("bass", ("bass",), (0,)),
                ("drums", ("drums",), (1,)),
                ("other", ("other",), (2, 4, 5)),
                ("vocals", ("vocals",), (3,)),
            ],
        ),
    ],
)
def test_stems_are_compared_with_what_they_mean(names, expected) -> None:
    assert targets(names, (), "m") == [Target(*values) for values in expected]


def test_wanted_stems_do_not_change_what_other_means() -> None:
    assert targets(("vocals", "drums", "bass", "other"), ("other",), "m") == [
        Target("other", ("other",), (3,))
    ]
    with pytest.raises(EvaluateError, match="karaoke"):
        targets(("karaoke",), (), "m")
    with pytest.raises(UserError, match="kazoo"):
        targets(STEMS, ("kazoo",), "m")


def test_the_command_prints_writes_and_draws(data, tmp_path) -> None:
    out = tmp_path / "out" / "scores"
    result = run("--data", data, "--model", "signature", "--baselines", "--out", out)
    assert result.exit_code == 0, result.output
    assert "B [song]" in result.stdout
    told = json.loads((out / "scores.json").read_text())
    assert [(row["song"], row["stem"]) for row in told["songs"]] == list(
        product(("test/A song", "test/B [song]"), STEMS)
    )
    assert told["failed"] == []
    assert (out / "scores.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    vocals = told["songs"][0]  # signature: half the mixture
    stems = true_stems(0)
    half = 0.5 * sum(stems[name] for name in STEMS)
    assert vocals["model"]["usdr"] == pytest.approx(float(sdr_db(half, stems["vocals"])), abs=1e-3)
    assert sorted(path.name for path in out.iterdir()) == ["scores.json", "scores.png"]


def test_a_page_to_listen_to_has_every_song(data, tmp_path) -> None:
    page = tmp_path / "page.html"
    result = run("--data", data, "--model", "signature", "--out", tmp_path / "out", "--report", page)
    assert result.exit_code == 0, result.output
    html = page.read_text(encoding="utf-8")
    assert html.count("<audio") == 2 * (1 + 2 * len(STEMS))
    assert "B [song]" in html


def test_an_excerpt_is_where_the_first_stem_is_loudest() -> None:
    frames = 15 * RATE_HZ
    rng = np.random.default_rng(0)
    voice, band = (0.1 * rng.standard_normal((2, frames), dtype=np.float32) for _ in range(2))
    voice[:, : 4 * RATE_HZ] *= 0.1
    voice[:, 14 * RATE_HZ :] *= 0.1
    found = excerpt(
        "x", voice + band, {"vocals": (voice + 0.1 * band, voice), "drums": (band, band)}, RATE_HZ
    )
    part = slice(4 * RATE_HZ, 14 * RATE_HZ)
    mix, vocals, drums = found.sounds
    np.testing.assert_array_equal(mix.audio, (voice + band)[:, part])
    np.testing.assert_array_equal(vocals.truth, voice[:, part])
    np.testing.assert_array_equal(drums.audio, band[:, part])
    assert vocals.note.startswith("SI-SDR +20.0 dB")
    assert found.note == "The 10 s with the loudest vocals."


def test_the_summary_is_median_and_mean(data, tmp_path) -> None:
    result = run("--data", data, "--model", "signature", "--out", tmp_path / "out", "--json")
    told = json.loads(result.stdout)
    drums = [row["model"]["sdr"] for row in told["songs"] if row["stem"] == "drums"]
    assert told["summary"]["drums"]["model"]["sdr"]["mean"] == pytest.approx(np.mean(drums), abs=1e-3)
    means = [told["summary"][name]["model"]["sdr"]["mean"] for name in STEMS]
    assert told["summary"]["all"]["model"]["sdr"]["mean"] == pytest.approx(np.mean(means), abs=1e-3)
    assert "mixture" not in told["songs"][0]


def rows(*values):
    scores = [None if v is None else {"sdr": v, "usdr": v, "si_sdr": v} for v in values]
    return [{"song": str(n), "stem": "vocals", "model": score} for n, score in enumerate(scores)]


def test_medians_leave_out_what_has_no_score() -> None:
    table = summarise(rows(1.0, 5.0, 9.0, 2.0, None))
    assert table["vocals"]["model"]["sdr"] == {"median": 3.5, "mean": 4.25}
    assert summarise(rows(None))["all"]["model"]["sdr"] == {"median": None, "mean": None}


def test_a_mean_over_stems_needs_all_of_them() -> None:
    silent = {"song": "0", "stem": "bass", "model": None}
    table = summarise([*rows(4.0), silent])
    assert table["bass"]["model"]["sdr"] == {"median": None, "mean": None}
    assert table["all"]["model"]["sdr"] == {"median": None, "mean": None}


def test_silent_stems_have_no_score(data, tmp_path) -> None:
    stems = true_stems()
    stems["bass"][:] = 0.0
    write_song(data / "test" / "C", stems)
    result = run("--data", data, "--model", "signature", "--baselines", "--out", tmp_path / "out", "--json")
    told = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))
    (bass,) = [row for row in told["songs"] if row["song"] == "test/C" and row["stem"] == "bass"]
    assert all(set(bass[system].values()) == {None} for system in ("model", "mixture", "oracle"))
    assert [row for row in told["songs"] if row["stem"] == "vocals"][2]["model"]["sdr"] is not None
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(as_table(told["songs"], told["summary"]))
    (line,) = [line for line in console.export_text().splitlines() if "test/C" in line and "bass" in line]
    assert line.split()[2:] == ["-"] * 6


def test_a_picture_of_nothing_but_silence_is_drawn() -> None:
    assert picture_of(rows(None, None)).startswith(b"\x89PNG")


def test_a_mixture_on_disk_is_what_is_separated(tmp_path) -> None:
    stems = true_stems()
    write_song(tmp_path / "A", stems | {"mixture": 0.5 * stems["vocals"]})
    np.testing.assert_array_equal(read_song(tmp_path / "A").mixture, 0.5 * stems["vocals"])
    (tmp_path / "A" / "mixture.wav").unlink()
    total = stems["vocals"] + stems["drums"] + stems["bass"] + stems["other"]
    np.testing.assert_array_equal(read_song(tmp_path / "A").mixture, total)


def test_songs_lie_by_part_or_at_once(tmp_path) -> None:
    for name in ("b", "a", ".cache"):
        (tmp_path / name).mkdir()
    assert list(song_folders(tmp_path)) == ["a", "b"]
    assert unscored_folders(tmp_path) == []
    (tmp_path / "Train" / "x").mkdir(parents=True)
    assert list(song_folders(tmp_path)) == ["Train/x"]
    assert unscored_folders(tmp_path) == ["a", "b"]
    (tmp_path / "test").mkdir()
    assert list(song_folders(tmp_path)) == ["Train/x"]
    (tmp_path / "test" / "y").mkdir()
    assert list(song_folders(tmp_path)) == ["test/y"]
    assert unscored_folders(tmp_path) == ["Train", "a", "b"]


def test_songs_that_models_were_trained_on_are_not_scored_unless_asked_for(data, tmp_path) -> None:
    write_song(data / "train" / "C", true_stems(2))
    arguments = ("--model", "signature", "--stems", "vocals", "--json", "--out", tmp_path / "out")
    result = run("--data", data, *arguments)
    assert [row["song"] for row in json.loads(result.stdout)["songs"]] == ["test/A song", "test/B [song]"]
    assert result.stderr == "not scored: train; --data takes another folder of songs\n"
    result = run("--data", data / "train", *arguments)
    assert [row["song"] for row in json.loads(result.stdout)["songs"]] == ["C"]


def test_names_of_stems_may_be_in_capitals(tmp_path) -> None:
    stems = true_stems()
    write_song(tmp_path / "A", stems)
    (tmp_path / "A" / "vocals.wav").rename(tmp_path / "A" / "VOCALS.WAV")
    np.testing.assert_array_equal(read_song(tmp_path / "A").stems["vocals"], stems["vocals"])


def spoil(folder, how):
    stems = true_stems()
    if how == "missing":
        (folder / "drums.wav").unlink()
    elif how == "twice":
        write_audio(folder / "Drums.flac", stems["drums"], RATE_HZ, "int24")
    elif how == "name":
        folder.rename(os.fsdecode(os.fsencode(folder.parent) + b"/A song\xff"))
    elif how == "length":
        write_audio(folder / "drums.wav", stems["drums"][:, 1:], RATE_HZ)
    elif how == "rate":
        write_audio(folder / "drums.wav", stems["drums"], RATE_HZ * 2)
    elif how == "channels":
        write_audio(folder / "drums.wav", stems["drums"][:1], RATE_HZ)
    elif how == "nan":
        stems["drums"][0, 5] = np.nan
        write_audio(folder / "drums.wav", stems["drums"], RATE_HZ)
    elif how == "short":
        write_song(folder, {name: audio[:, : RATE_HZ - 1] for name, audio in stems.items()})
    elif how == "cut":
        cut(folder / "drums.wav")
    elif how == "damaged":
        (folder / "drums.wav").unlink()
        write_audio(folder / "drums.flac", stems["drums"], RATE_HZ, "int24")
        cut(folder / "drums.flac")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", ["drums.wav", "vocals, drums, bass, other"]),
        ("twice", ["two files for drums", "keep one"]),
        ("name", ["its name is not in UTF-8", "rename it"]),
        ("length", ["drums.wav", "32099 frames", "32100"]),
        ("rate", ["drums.wav", "16000 Hz", "8000"]),
        ("channels", ["drums.wav", "1 channels", "2"]),
        ("nan", ["drums.wav", "NaN"]),
        ("short", ["shorter than the 1 s", "leave it out"]),
        ("cut", ["drums.wav", "ends early or is damaged"]),
        ("damaged", ["drums.flac", "ends early or is damaged"]),
    ],
)
def test_a_bad_song_is_told_and_left_out(data, tmp_path, how, words) -> None:
    spoil(data / "test" / "A song", how)
    result = run("--data", data, "--model", "signature", "--out", tmp_path / "out", "--json")
    assert_one_line(result, "A song", *words)
    told = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {row["song"] for row in told["songs"]} == {"test/B [song]"}
    renamed = "\udcff" if how == "name" else ""
    assert [row["song"] for row in told["failed"]] == [f"test/A song{renamed}"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "missing"], ["missing", "folder"]),
        (["--data", "empty"], ["empty", "no songs"]),
        (["--data", "songs", "--model", "nonsense"], ["nonsense"]),
        (["--data", "songs", "--model", "signature", "--stems", "kazoo"], ["kazoo", "vocals"]),
    ],
)
def test_a_bad_choice_is_one_line_and_leaves_nothing(data, tmp_path, monkeypatch, arguments, words) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert_one_line(run(*arguments, "--out", "out"), *words)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_where_no_song_could_be_scored(data, tmp_path) -> None:
    for path in data.rglob("bass.wav"):
        path.unlink()
    result = run("--data", data, "--model", "signature", "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 2)
    assert not (tmp_path / "out").exists()


def test_no_score_exceeds_a_hundred_db_either_way() -> None:
    assert [_bounded(v) for v in (math.inf, -math.inf, 138.8, 7.00004, math.nan, None)] == [
        100,
        -100,
        100,
        7,
        None,
        None,
    ]
