"""What `stembridge bench` shows of what was measured; what is missing is a line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from host import bench, hop_times, live_times, peers, roofline, window_times
from host.bench_rows import COLUMNS, Row, as_table, in_order, picture
from host.cli import main
from host.machine import driver
from host.peers import PeerError, hs_tasnet, published_roformer, stubbed
from host.roofline import Peak, weight_bytes
from host.window_errors import MOST_DB, decibels, live_errors, mask_error
from host.window_times import SHAPES, Shape, our_rows, peer_rows
from model.catalogue import builtin_models
from model.causal_stream import CausalStream
from model.compromise import Compromise
from model.config import ConfigError
from model.flops import window_flops
from model.precision import as_small_as_exact
from model.separators import CausalSeparator
from model.window_framing import WindowFraming
from model.windowed import WindowedSeparator
from streaming.separator import SignatureSeparator
from tests.model.builders import random_model, small
from tests.model.test_roformer import SHORT

TINY = Shape("tiny", SHORT, WindowFraming(768, 96, 128, 32))
FIGURES = {"p50_ms": 2.0, "p99_ms": 3.0, "p99.9_ms": 4.0, "max_ms": 5.0, "load_p50": 0.2, "load_p99": 0.3}


def rows_on_cpu() -> list[Row]:
    cpu = torch.device("cpu")
    return [*our_rows(TINY, cpu, 0.01), *peer_rows(TINY, cpu, 0.01)]


def test_others_are_told_by_the_time_that_ours_takes_for_the_same_sound() -> None:
    slow = {**FIGURES, "load_p50": 0.5}
    rows = [Row("a", "ours", FIGURES), Row("d", "e", slow), Row("a", "b", slow), Row("a", "c", trouble="no")]
    told = in_order(rows)
    assert [row.name for row in told] == ["ours", "b", "c", "e"]
    assert [row.figures.get("times_ours") for row in told] == [None, 2.5, None, None]


def test_a_ratio_of_turns_stays() -> None:
    beside = in_order([Row("a", "ours", FIGURES), Row("a", "b", FIGURES | {"times_ours": 7.0})])[1]
    assert beside.figures["times_ours"] == 7.0


def test_what_is_no_number_is_none_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("a", "ours", {"output_db": math.nan, "p50_ms": 1.0})]
    monkeypatch.setattr(bench, "tasks", lambda parts, devices, seconds: [("all", lambda: rows)])
    told = json.loads(CliRunner().invoke(main, ["bench", "--json"]).stdout)["rows"][0]
    assert told["figures"] == {"output_db": None, "p50_ms": 1.0}


def test_others_have_no_ratio_where_ours_was_not_measured() -> None:
    rows = in_order([Row("a", "ours", trouble="no"), Row("a", "b", FIGURES)])
    assert "times_ours" not in rows[1].figures


def test_the_table_has_every_column_and_says_what_is_missing() -> None:
    table = as_table([Row("a", "ours", FIGURES | {"host_ms": 0.125}), Row("a", "b", trouble="not installed")])
    assert [column.header for column in table.columns][1:-1] == [title for title, _ in COLUMNS.values()]
    assert list(table.columns[1].cells) == ["", "2", ""]
    assert list(table.columns[-1].cells) == ["", "host 0.12 ms", "not installed"]


def test_the_picture_shows_what_was_measured() -> None:
    rows = [
        Row("a", "ours", FIGURES | {"roofline_ms": 1.0}),
        Row("a", "b", trouble="no"),
        Row("c", "d", FIGURES),
    ]
    (axes,) = picture(rows).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c: d", "a: ours"]
    assert [float(line.get_xdata()[-1]) for line in axes.lines] == [5.0, 3.0, 5.0, 3.0, 1.0]


def test_the_roofline_is_the_slower_of_work_and_bytes() -> None:
    best = Peak(flops_per_s=10.0, bytes_per_s=2.0)
    assert best.least_s(20, 2) == 2.0
    assert best.least_s(20, 10) == 5.0
    assert weight_bytes(torch.nn.Linear(3, 5).half()) == 2 * (15 + 5)


def test_a_product_counts_two_operations_a_step_and_a_copy_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "least_seconds", lambda run, device: 0.5)
    best = roofline.peak(torch.device("cpu"), torch.float32)
    assert best == Peak(4 * roofline.PRODUCT_SIZE["cpu"] ** 3, 4 * roofline.COPY_BYTES["cpu"])


@pytest.mark.parametrize("streams", [1, 3])
def test_the_work_of_several_streams_is_that_of_each(monkeypatch: pytest.MonkeyPatch, streams: int) -> None:
    monkeypatch.setattr(window_times, "peak", lambda device, dtype: Peak(1e9, 1e99))
    shape = dataclasses.replace(TINY, streams=streams)
    gflop = streams * window_flops(SHORT, TINY.framing) / 1e9
    (row,) = our_rows(shape, torch.device("cpu"), 0.01)
    assert row.figures["gflop"] == pytest.approx(gflop)
    assert row.figures["roofline_ms"] == pytest.approx(gflop * 1e3)
    assert row.figures["live_db"] > 100


def test_a_builtin_hop_reads_its_weights_and_what_every_stream_carries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = random_model(small("live"))
    carried = sum(tensor.nbytes for tensor in CausalStream(network).carried())
    kept = sum(as_small_as_exact(weight).nbytes for weight in network.parameters())
    monkeypatch.setattr(roofline, "peak", lambda device, dtype: Peak(1e99, 1.0))
    separators = [CausalSeparator(network, streams=streams) for streams in (1, 6)]
    one, six = (live_times._roofline(network, separator, 2.0) for separator in separators)
    assert one["roofline_ms"] == pytest.approx(1e3 * (kept + carried))
    assert six["roofline_ms"] == pytest.approx(1e3 * (kept + 6 * carried))
    assert six["gflop"] == pytest.approx(6 * one["gflop"])
    assert one["times_roofline"] == pytest.approx(2.0 / one["roofline_ms"])


@pytest.mark.filterwarnings("ignore:A window was not provided")
def test_a_peer_has_our_weights_and_its_load_is_over_the_same_hop() -> None:
    cpu = torch.device("cpu")
    exact = window_times.random_network(TINY, cpu)
    peer = window_times.peer_with(TINY, cpu, exact).state_dict()
    assert all(torch.equal(peer[name], value) for name, value in exact.state_dict().items())
    figures = window_times._summary(TINY, np.array([0.5, 0.5]))
    assert figures["load_p50"] == pytest.approx(0.5 / (TINY.framing.hop_frames / SHORT.sample_rate_hz))


def test_the_load_of_hs_tasnet_is_over_its_own_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = SimpleNamespace(overlap_len=441, sample_rate=44100, init_stateful_transform_fn=lambda: len)
    monkeypatch.setattr(peers, "hs_tasnet", lambda: peer)
    figures = live_times.hs_tasnet_row("a group", 0.01).figures
    assert figures["load_p50"] == pytest.approx(figures["p50_ms"] / 10)


def test_what_a_hop_does_besides_waiting_is_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def waiting(stream: type) -> Iterator[list[float]]:
        assert stream is torch.cuda.Stream
        yield [0.003] * 20

    monkeypatch.setattr(window_times, "waits", waiting)
    monkeypatch.setattr(window_times, "runs_in", lambda step, seconds: 20)
    monkeypatch.setattr(window_times, "timed", lambda step, runs: np.full(runs, 0.004))
    cpu = torch.device("cpu")
    with window_times._live(TINY, cpu, window_times.random_network(TINY, cpu)) as (separator, _):
        assert window_times._hop_figures(separator, cpu, 1.0)["host_ms"] == pytest.approx(1.0)


def test_two_are_timed_in_turns() -> None:
    calls: list[tuple[str, int]] = []
    found = hop_times.timed_in_turns(
        lambda run: calls.append(("peer", run)), lambda run: calls.append(("ours", run)), 2
    )
    assert calls == [("peer", 0), ("ours", 0), ("peer", 1), ("ours", 1)]
    assert found.shape == (2, 2)


def test_a_peer_s_ratio_is_its_median_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    took = np.array([[4.0, 6.0, 90.0], [2.0, 2.0, 1.0]])
    monkeypatch.setattr(window_times, "timed_in_turns", lambda step, ours, runs: took)
    figures = window_times._beside(TINY, lambda run: None, lambda run: None, 0.01)
    assert (figures["times_ours"], figures["p50_ms"]) == (3.0, 6000.0)


def test_what_comes_out_of_the_live_hop_is_held_against_float32() -> None:
    cpu = torch.device("cpu")
    exact = window_times.random_network(TINY, cpu)
    audio = window_times.noise_window(TINY, cpu)
    with window_times._live(TINY, cpu, exact) as (separator, _network):
        assert live_errors(separator, exact, TINY.framing, audio)["live_db"] > 100
        separator.separate = lambda mixture, stems_out: stems_out.fill(0)
        assert live_errors(separator, exact, TINY.framing, audio)["live_db"] == pytest.approx(0)
        separator.separate = lambda mixture, stems_out: stems_out.fill(np.log(np.abs(mixture).max()))
        with pytest.raises(RuntimeError, match="not finite for silence"), np.errstate(divide="ignore"):
            live_errors(separator, exact, TINY.framing, audio)


def test_errors_are_those_of_their_definitions() -> None:
    exact, found = torch.tensor([2.0, -2.0]), torch.tensor([2.0, -1.0])
    assert mask_error(found, exact) == pytest.approx(
        {"mask_error_rms": 0.5**0.5, "mask_error_relative": 0.125**0.5}
    )
    assert decibels(found, exact) == pytest.approx(10 * math.log10(8))
    assert decibels(torch.stack([found, exact]), exact[None]) == pytest.approx(10 * math.log10(16))
    assert decibels(exact, exact) == pytest.approx(MOST_DB)


def test_a_stream_s_waits_are_counted_and_its_class_is_left_as_it_was() -> None:
    class Stream:
        def synchronize(self) -> None:
            calls.append(self)

    calls: list[Stream] = []
    before, stream = Stream.synchronize, Stream()
    with hop_times.waits(Stream) as found:
        stream.synchronize()
        stream.synchronize()
    assert calls == [stream, stream]
    assert len(found) == 2
    assert Stream.synchronize is before


def test_a_step_gives_a_separator_its_windows_one_hop_apart() -> None:
    class Heard(SignatureSeparator):
        streams = 3

        def separate(self, mixture, stems_out) -> None:
            heard.append(mixture.copy())
            assert stems_out.shape == (3, 4, 2, 4 + 2)

    heard: list[np.ndarray] = []
    separator = Heard(44100, hop_frames=4, latency_frames=6)
    separator.window_frames, separator.fade_frames = 12, 2
    hop_times.timed(hop_times.hop_step(separator), 2)
    first, second = heard
    assert first.shape == (3, 2, 12)
    np.testing.assert_array_equal(first[..., 4:], second[..., :-4])
    np.testing.assert_array_equal(first[0], first[2])


def test_windows_are_measured_beside_the_published_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_times, "peak", lambda device, dtype: Peak(1e9, 1e9))
    ours, exactly, lowered = in_order(rows_on_cpu())
    assert not any(row.trouble for row in (ours, exactly, lowered))
    assert ours.figures["times_roofline"] == ours.figures["p50_ms"] / ours.figures["roofline_ms"]
    assert "host_ms" not in ours.figures  # nothing waits for a GPU
    assert 0 < ours.figures["mask_error_relative"] < 5e-3
    assert ours.figures["mask_error_rms"] < 2 * lowered.figures["mask_error_rms"]
    assert ours.figures["output_db"] > 45
    assert ours.figures["output_db"] > ours.figures["bf16_output_db"] + 10
    assert {"times_ours", "p99.9_ms"} <= exactly.figures.keys()


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.devices.cuda_trouble", lambda _cuda: "no driver")
    result = CliRunner().invoke(main, ["bench", "--device", "cuda"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: No CUDA device can be used here (no driver)")
    assert result.stderr.count("\n") == 1


def test_on_a_gpu_one_way_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what makes it fast it is measured too; that is what one needs where a capture fails."""

    def fails(shape, device, exact, seconds, change=None, graphs=True):
        if graphs:
            raise RuntimeError("cannot be\ncaptured")
        return FIGURES

    monkeypatch.setattr(window_times, "live_figures", fails)
    monkeypatch.setattr(window_times, "random_network", lambda shape, device: None)
    captured, plain, uncaptured = our_rows(TINY, torch.device("cuda"), 0.01)
    assert (captured.trouble, plain.trouble) == ("cannot be captured",) * 2
    assert (uncaptured.name, uncaptured.figures) == ("stembridge, graphs off", FIGURES)


def test_a_window_that_memory_is_too_small_for_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = iter([False, True])
    monkeypatch.setattr(WindowedSeparator, "_fits", lambda _self: next(fits))
    (row,) = our_rows(TINY, torch.device("cpu"), 0.01)
    assert not row.figures
    assert row.trouble.startswith("too little memory for windows")


def test_layers_that_cannot_be_compiled_are_no_figures_of_compiled_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain_after_all(self: WindowedSeparator) -> None:
        warnings.warn("layers run uncompiled, which is slower: no compiler", Compromise, stacklevel=2)

    monkeypatch.setattr(WindowedSeparator, "warm_up", plain_after_all)
    for _ in range(2):  # of every shape, not of the first alone
        (row,) = our_rows(TINY, torch.device("cpu"), 0.01)
        assert (row.figures, row.trouble) == ({}, "layers run uncompiled, which is slower: no compiler")


def test_work_that_takes_for_ever_is_ended() -> None:
    assert hop_times.in_time(60.0, max, 2, 3) == 3
    with pytest.raises(RuntimeError, match="not done after 1 s"):
        hop_times.in_time(1.0, time.sleep, 3600)


def test_work_that_fails_or_dies_is_not_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        hop_times.in_time(3600.0, divmod, 1, 0)
    with pytest.raises(RuntimeError, match="its process ended with code -9"):
        hop_times.in_time(3600.0, signal.raise_signal, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="its process ended with code 3"):
        hop_times.in_time(3600.0, start_one_that_stays_and_end)
    with pytest.raises(RuntimeError, match="TwoWords: one two"):
        hop_times.in_time(3600.0, fail_in_two_words)


def start_one_that_stays_and_end() -> None:
    if os.fork() == 0:
        time.sleep(20)
    os._exit(3)


class TwoWords(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def fail_in_two_words() -> None:
    raise TwoWords("one", "two")


def test_all_shapes_can_be_run() -> None:
    for shape in [shape for shapes in SHAPES.values() for shape in shapes]:
        assert shape.framing.check(shape.config) is shape.framing


def missing(name: str) -> str:
    raise peers.metadata.PackageNotFoundError(name)


def test_a_peer_that_is_missing_or_another_is_a_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.metadata, "version", missing)
    with pytest.raises(PeerError, match=r"^not installed: pip install BS-RoFormer==0\.3\.10$"):
        published_roformer(SHORT)
    row = live_times.hs_tasnet_row("a group", 0.01)
    assert row.trouble.startswith("not installed: pip install --no-deps HS-TasNet==")
    monkeypatch.setattr(peers.metadata, "version", lambda name: "9.9")
    with pytest.raises(PeerError, match=r"HS-TasNet 9\.9 is another model: pip install"):
        hs_tasnet()


def test_windows_without_the_peer_are_still_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_times, "peak", lambda device, dtype: Peak(1e9, 1e9))
    monkeypatch.setattr(peers.metadata, "version", missing)
    ours, *others = rows_on_cpu()
    assert "p50_ms" in ours.figures
    assert {row.trouble for row in others} == {"not installed: pip install BS-RoFormer==0.3.10"}


def test_stubs_are_gone_afterwards_and_replace_nothing() -> None:
    with stubbed(("no_such_module", "json")):
        import no_such_module

        assert no_such_module.anything()
        assert __import__("json") is json
    with pytest.raises(ImportError):
        import no_such_module


def test_every_part_has_its_tasks() -> None:
    titles = [title for title, _ in bench.tasks(bench.PARTS, ("cpu", "cuda"), 1.0)]
    assert titles[0] == "callback"
    assert [f"built-in {name}" for name in builtin_models()] == titles[1 : 1 + len(builtin_models())]
    assert {f"{shape.name}, cuda" for shape in SHAPES["cuda"]} < set(titles)
    assert bench.tasks(("callback",), ("cuda",), 1.0)[0][0] == "callback"


@pytest.mark.parametrize("error", [ConfigError("two\nlines"), AssertionError("two\nlines")])
def test_what_fails_is_a_row_and_the_rest_goes_on(error: Exception) -> None:
    def fails():
        yield Row("a", "b", FIGURES)
        raise error

    rows = list(bench._measured([("first", fails), ("second", lambda: [Row("c", "d", FIGURES)])]))
    assert [(row.group, row.trouble) for row in rows] == [("a", ""), ("first", "two lines"), ("c", "")]


def test_rows_of_a_gpu_that_is_not_there_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.devices.cuda_trouble", lambda _cuda: "no driver")
    rows = [row for _, measure in bench.tasks(("windows",), ("cuda",), 1.0) for row in measure()]
    assert [row.group for row in rows] == [f"{shape.name}, cuda" for shape in SHAPES["cuda"]]
    ((_, measure),) = [task for task in bench.tasks(("built-in",), ("cuda",), 1.0) if "many" in task[0]]
    assert {row.trouble for row in [*rows, *measure()]} == {"not measured: no driver"}


def test_a_driver_that_hangs_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 30)

    monkeypatch.setattr("host.machine.shutil.which", lambda tool: tool)
    monkeypatch.setattr("host.machine.subprocess.run", hangs)
    assert driver() == ""


def test_no_number_is_no_time() -> None:
    result = CliRunner().invoke(main, ["bench", "--seconds", "nan"])
    assert result.exit_code == 2
    assert "'nan' is not in the range 0.05<=x<=3600" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_before_an_interrupt_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    def interrupted():
        yield Row("a", "ours", FIGURES)
        signal.raise_signal(number)

    monkeypatch.setattr(bench, "tasks", lambda parts, devices, seconds: [("all", interrupted)])
    plot = tmp_path / "times.png"
    result = CliRunner().invoke(main, ["bench", "--json", "--plot", str(plot)])
    assert result.exit_code == 130
    assert [row["name"] for row in json.loads(result.stdout)["rows"]] == ["ours"]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "take a name that ends in .png"),
        ("times.json", "take a name that ends in .png"),
        ("fifo.png", "something that is no file has this name"),
        (f"{'long' * 70}.png", "File name too long"),
        ("file/times.png", "cannot hold results"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, why: str
) -> None:
    monkeypatch.setattr(bench, "tasks", lambda *_: pytest.fail("measured"))
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.png")
    Path("file").touch()
    result = CliRunner().invoke(main, ["bench", "--plot", name])
    assert result.exit_code == 2
    assert why in result.stderr
    assert Path("fifo.png").is_fifo()


def test_the_command_prints_json_and_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [Row("a", "ours", FIGURES), Row("a", "b", FIGURES)]
    monkeypatch.setattr(bench, "tasks", lambda parts, devices, seconds: [("all", lambda: rows)])
    plot = tmp_path / "new" / "times.png"
    result = CliRunner().invoke(main, ["bench", "--json", "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found.keys() == {"machine", "command", "rows"}
    assert {"python", "torch"} <= found["machine"]["versions"].keys()
    assert found["rows"][1] == {
        "group": "a",
        "name": "b",
        "figures": FIGURES | {"times_ours": 1.0},
        "trouble": "",
    }
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = CliRunner().invoke(main, ["bench", "--part", "windows"]).stdout
    assert "x roofline" in shown
    assert "ours" in shown
