"""What a user did is one line and 2, Ctrl-C is 130, a bug keeps its traceback."""

import click
import pytest
from click.testing import CliRunner

from host.errors import UserError, guarded, one_line
from host.outputs import OutputError, results_folder, writable_folder, write_text
from host.plugins import ChainError
from model.config import ConfigError
from streaming.framing import FramingError
from tests.disk import disk_that_takes


def end_with(error):
    @click.command()
    @click.option("--name", default="x")
    @guarded
    def command(name):
        raise error

    return CliRunner().invoke(command, [])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("what,\n  why"), "what, why"),
        (ChainError("a chain"), "a chain"),
        (ConfigError("a model"), "a model"),
        (FramingError("a hop"), "a hop"),
        (FileNotFoundError(2, "No such file or directory", "a.wav"), "a.wav: No such file or directory"),
        (OSError("no disk"), "no disk"),
        (UserError(), "UserError"),
    ],
)
def test_an_expected_error_is_one_line_and_2(error, line) -> None:
    result = end_with(error)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {line}\n")


def test_ctrl_c_is_130_without_a_word() -> None:
    result = end_with(KeyboardInterrupt())
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug"), KeyError("a bug")])
def test_a_bug_keeps_its_traceback(error) -> None:
    result = end_with(error)
    assert result.exit_code == 1
    assert result.exception is error


def test_a_result_passes_and_the_command_keeps_its_help() -> None:
    @guarded
    def double(number: int) -> int:
        """Twice as much."""
        return 2 * number

    assert double(21) == 42
    assert double.__doc__ == "Twice as much."


def test_one_line_is_never_empty() -> None:
    assert one_line(RuntimeError("")) == "RuntimeError"


def test_folders_are_made_and_tried(tmp_path) -> None:
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        writable_folder(tmp_path / "file" / "below")


def test_a_folder_without_results_does_not_stay(tmp_path) -> None:
    with pytest.raises(UserError), results_folder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        raise UserError("a bad model")
    assert list(tmp_path.iterdir()) == []
    with results_folder(tmp_path / "a" / "b") as folder:
        write_text(folder / "page.html", "x")
    (tmp_path / "old").mkdir()
    with results_folder(tmp_path / "old"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "old"]


def test_text_is_whole_or_as_it_was(tmp_path) -> None:
    path = tmp_path / "page.html"
    write_text(path, "old")
    with pytest.raises(OutputError, match=r"page\.html"), disk_that_takes(10):
        write_text(path, "new" * 100)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_text(path, "a name: \udcff")
    assert path.read_text() == "a name: \\udcff"
    with pytest.raises(OutputError, match="missing"):
        write_text(tmp_path / "missing" / "page.html", "x")
