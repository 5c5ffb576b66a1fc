from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.commands.cli import main
from comparisons import recording


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording(1).write(tmp_path_factory.mktemp("m") / "m")


def _plot(directory: Path, output: Path, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["plot", str(directory), "-o", str(output), *arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("name", "start"), [("x.png", b"\x89PNG"), ("x.svg", b"<?xml"), ("x.PDF", b"%PDF")]
)
def test_the_name_says_which_kind_of_picture(
    directory: Path, tmp_path: Path, name: str, start: bytes
) -> None:
    result = _plot(directory, tmp_path / name, "--label", "/b*")
    assert result.output == f"written: {tmp_path / name}\n"
    assert (tmp_path / name).read_bytes().startswith(start)


def test_labels_and_times_are_chosen(directory: Path, tmp_path: Path) -> None:
    picture = tmp_path / "x.svg"
    _plot(directory, picture, "--label", "/a*", "--label", "j?b", "--since", "1700000060")
    comments = picture.read_text()
    assert "<!-- /a [GET]: per second -->" in comments
    assert "<!-- job: duration, ms -->" in comments
    assert "/b [GET]" not in comments
    assert "22:14:30" in comments or "<!-- 30 -->" in comments


def test_processes_are_chosen(directory: Path, tmp_path: Path) -> None:
    _plot(directory, tmp_path / "x.svg", "--pid", "4001")
    assert "PID 4001" in (tmp_path / "x.svg").read_text()
    assert "PID 4000" not in (tmp_path / "x.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--label", "/z*"), 1, "no label matches '/z*'; there are: /a [GET], /b [GET]"),
        (("--since", "2030-01-01"), 1, "nothing was recorded then"),
        (("--since", "5x"), 2, "--since '5x' must be a time"),
    ],
)
def test_what_can_not_be_drawn_is_explained(
    directory: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert message in _plot(directory, tmp_path / "x.png", *arguments, code=code).output
    assert not (tmp_path / "x.png").exists()


def test_another_kind_of_picture_is_a_usage_error(directory: Path, tmp_path: Path) -> None:
    output = _plot(directory, tmp_path / "x.gif", code=2).output
    assert "must end with .png, .svg or .pdf" in output


def test_a_picture_that_can_not_be_written_is_an_error(directory: Path, tmp_path: Path) -> None:
    output = _plot(directory, tmp_path / "none" / "x.png", "--label", "job", code=1).output
    assert "can't be written: No such file or directory" in output
