"""The dial's benchmark: the right network at every point, and a table and a picture of what came out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import latency_quality
from benchmarks.latency_quality import (
    WHOLE_SONG,
    Point,
    by_latency,
    chosen,
    digests_of,
    earlier,
    framed,
    load_of,
    on_windows,
    points_of,
    windows_of,
    write,
)
from benchmarks.latency_quality_pages import as_markdown, picture
from host.errors import UserError
from host.outputs import OutputError
from model.catalogue import WEIGHTS
from model.config import WHOLE_SIGNAL
from model.training.evaluate import PHRASES, REAL, HeldOutSong
from model.training.songs import STEM_NAMES
from tests.disk import disk_that_takes
from tests.model.builders import SMALL_LIVE, noise, random_model


def dial():
    config = dataclasses.replace(SMALL_LIVE, past_frames=32, look_aheads=(0, WHOLE_SIGNAL, 16, 2))
    return random_model(config)


def test_every_look_ahead_is_a_point_with_the_same_weights() -> None:
    network = dial()
    points = points_of(network)
    assert [point.name for point in points] == ["20 ms", "40 ms", "180 ms", WHOLE_SONG]
    assert [point.network.config.look_ahead_frames for point in points] == [0, 2, 16, WHOLE_SIGNAL]
    for point in points:
        weights = point.network.state_dict()
        assert all(torch.equal(weights[name], weight) for name, weight in network.state_dict().items())
    assert [point.name for point in points_of(random_model())] == ["20 ms"]


def test_a_stage_profile_comes_first() -> None:
    stage = Point("13 ms (stage)", random_model(dataclasses.replace(SMALL_LIVE, hop_frames=294)))
    assert by_latency([*points_of(dial()), stage])[0] == stage


def test_load_is_measured_where_the_network_streams() -> None:
    points = points_of(dial())
    assert 0 < load_of(points[1], 20)["load_p50"] <= load_of(points[1], 20)["load_max"]
    assert set(load_of(points[-1], 20)) == set(load_of(points[1], 20))


def test_a_network_that_knows_everything_is_a_point_per_window_too() -> None:
    points = windows_of(dial())
    names = ["60 ms, 2 s", "100 ms, 2 s", "100 ms, 1 s", "100 ms, 4 s", "180 ms, 2 s"]
    assert [point.name for point in points] == names
    assert all(point.network.config.look_ahead_frames == WHOLE_SIGNAL for point in points)
    assert dataclasses.astuple(points[1].framing) == (88200, 1764, 2205, 441)
    assert windows_of(random_model()) == []
    assert load_of(points[0], 20)["load_p50"] > 0


def test_scores_of_windows_are_of_what_the_live_engine_gives() -> None:
    """Where time attention hears nothing, any window gives what the whole song has there, frame by frame."""
    network = random_model(dataclasses.replace(SMALL_LIVE, look_ahead_frames=WHOLE_SIGNAL))
    for block in network.blocks:
        block.time_attention.out.weight.data.zero_()
    mixture = noise(2, 30_000)
    with torch.no_grad():
        expected = network(torch.from_numpy(mixture).unsqueeze(0))[0].numpy()
    stems = on_windows(network, framed(network, 0.2, 0.01))(mixture)
    assert tuple(stems) == STEM_NAMES
    for stem, whole in zip(stems.values(), expected, strict=True):
        np.testing.assert_allclose(stem, whole, rtol=0, atol=2e-6)
    skipped = on_windows(network, framed(network, 0.2, 0.01), skipped_s=0.25)(mixture)
    for stem, whole in zip(skipped.values(), stems.values(), strict=True):
        assert not np.array_equal(stem, whole)
        np.testing.assert_array_equal(stem[:, 11_025:], whole[:, 11_025:])


def test_loads_are_measured_again_only_beside_scores_of_the_same_points(tmp_path) -> None:
    write(found(), tmp_path)
    network = random_model()
    points = [Point(facts["name"], network) for facts in found()["points"]]
    with pytest.raises(UserError, match="scores of other weights; run without --loads first"):
        earlier(tmp_path, points)
    known = found() | {"weights": digests_of(points)}
    write(known, tmp_path)
    assert earlier(tmp_path, points) == known
    with pytest.raises(UserError, match="run without --loads first"):
        earlier(tmp_path, points[1:])
    (tmp_path / "latency_quality.json").write_text("{")
    with pytest.raises(UserError, match="run without --loads first"):
        earlier(tmp_path, points)


def test_the_figure_is_of_the_weights_that_ship() -> None:
    figure = json.loads((Path(latency_quality.__file__).with_suffix(".json")).read_text())
    models = json.loads((WEIGHTS / "scores.json").read_text())["models"]
    shown = [models[f"builtin-{name}"]["sha256"] for name in ("stage", "studio")]
    assert figure["weights"] == shown


def test_so_many_songs_of_every_set() -> None:
    stems = np.ones((4, 2, 5 * 44_100), np.float32)
    songs = [HeldOutSong(str(n), stems, STEM_NAMES, kind) for n, kind in enumerate([REAL] * 3 + [PHRASES])]
    assert [(song.name, song.seconds) for song in chosen(songs, 2, 1.0)] == [("0", 1), ("1", 1), ("3", 1)]
    assert len(chosen(songs, None, 1.0)) == 4
    with pytest.raises(UserError, match=r"^0: shorter than 2 \+ 4 s; leave it out, or score less of it$"):
        chosen(songs, None, 2.0)


def found():
    def scores(value):
        return None if value is None else {"si_sdr": value, "sdr": value}

    points = [
        {"name": "20 ms", "latency_ms": 20.0, "window_s": None, "load": {"load_p50": 0.25, "load_p99": 0.5}},
        {"name": WHOLE_SONG, "latency_ms": None, "window_s": None, "load": None},
        {"name": "100 ms, 2 s", "latency_ms": 100.0, "window_s": 2.0, "load": {"load_p50": 5, "load_p99": 6}},
    ]
    means = [
        {"set": REAL, "song": "real songs, mean of 2", "stem": "vocals", "mixture": scores(-6.0)}
        | {"20 ms": scores(1.25), WHOLE_SONG: scores(3.5), "100 ms, 2 s": scores(3.0)},
        {"set": REAL, "song": "real songs, mean of 2", "stem": "bass", "mixture": scores(2.0)}
        | {"20 ms": None, WHOLE_SONG: scores(4.0), "100 ms, 2 s": scores(1.0)},
    ]
    rows = [
        {"song": str(n), "stem": "vocals", "20 ms": scores(low), WHOLE_SONG: scores(high)}
        | {"100 ms, 2 s": scores(high)}
        for n, (low, high) in enumerate([(0.0, 1.0), (5.0, 8.0)])
    ]
    return {"points": points, "means": means, "rows": rows, "machine": "m"}


def test_the_table_has_a_column_for_every_latency() -> None:
    lines = as_markdown(found()).splitlines()
    assert lines[0] == "| songs | stem | mixture | 20 ms | whole song | 100 ms, 2 s |"
    assert lines[2] == "| load p50 |  |  | 0.25 | - | 5.00 |"
    assert lines[4] == "| real songs, mean of 2 | vocals | -6.0 | 1.2 | 3.5 | 3.0 |"
    assert lines[5].endswith("| 2.0 | - | 4.0 | 1.0 |")


def test_gains_over_the_whole_song_are_of_the_same_songs() -> None:
    lines = as_markdown(found()).splitlines()[6:]
    assert lines[:2] == ["", "| less the whole song | songs | 20 ms | 100 ms, 2 s |"]
    assert lines[3:] == ["| vocals | 2 | -2.00 ± 1.00 | +0.00 ± 0.00 |"]  # of -1 and -3: sqrt(2) / sqrt(2)
    alone = found() | {"rows": found()["rows"][:1]}
    assert as_markdown(alone).splitlines() == as_markdown(found()).splitlines()[:6]


def test_the_picture_has_a_panel_per_set_and_one_of_the_load(tmp_path) -> None:
    scores, load = picture(found()).axes
    assert [line.get_label() for line in scores.lines] == ["vocals", "_", "bass", "_"]
    assert [line.get_marker() for line in scores.lines] == ["o", "s", "o", "s"]
    legend = picture(found()).legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["vocals", "bass", "windows of 2 s"]
    np.testing.assert_array_equal(scores.lines[0].get_xydata(), [(20, 1.25), (200, 3.5)])
    np.testing.assert_array_equal(scores.lines[1].get_xydata(), [(100, 3.0)])
    np.testing.assert_array_equal(scores.lines[2].get_xydata(), [(200, 4.0)])
    assert [list(line.get_ydata()) for line in load.lines] == [[0.25], [5], [0.5], [6], [1.0, 1.0]]
    write(found(), tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}


@pytest.mark.parametrize(("suffix", "most_bytes"), [(".json", 100), (".png", 5000)])
def test_every_file_is_whole_or_as_it_was(tmp_path, suffix, most_bytes) -> None:
    write(found(), tmp_path)
    before = {path.suffix: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=f"latency_quality{suffix}"), disk_that_takes(most_bytes):
        write(found(), tmp_path)
    assert {path.suffix: path.read_bytes() for path in tmp_path.iterdir()} == before
