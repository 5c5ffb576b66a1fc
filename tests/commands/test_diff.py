from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.commands.cli import main
from comparisons import SECONDS, recording
from fakes import EPOCH_NS


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings")
    recording(1, load=2).write(path / "base")
    recording(2, load=2, slower=1.3).write(path / "new")
    recording(3, load=2).write(path / "same")
    (path / "empty").mkdir()
    return path


def _diff(recordings: Path, *arguments: str, code: int = 0) -> Result:
    known = {each.name for each in recordings.iterdir()}
    paths = [str(recordings / each) if each in known else each for each in arguments]
    result = CliRunner().invoke(main, ["diff", *paths])
    assert result.exit_code == code, result.output
    return result


def test_what_got_slower_is_shown(recordings: Path) -> None:
    output = _diff(recordings, "base", "new").output
    assert "/a [GET]  slower\n" in output
    assert output.startswith(f"A  {recordings / 'base'}: ")


def test_equal_recordings_do_not_differ(recordings: Path) -> None:
    assert "0 of 4 common labels changed" in _diff(recordings, "base", "same").output


def test_the_exit_status_says_whether_a_condition_holds(recordings: Path) -> None:
    condition = ("--fail-if", "p95 > +10%")
    assert "p95 > +10% holds: " in _diff(recordings, "base", "new", *condition, code=1).output
    assert "does not hold" in _diff(recordings, "base", "same", *condition).output
    two = ("--fail-if", "errors > +20%", *condition)
    _diff(recordings, "base", "new", *two, code=1)


def test_a_condition_that_no_label_decides_is_no_success(recordings: Path) -> None:
    output = _diff(recordings, "base", "new", "--fail-if", "label:job p99 > 1%", code=3).output
    assert "is not decided: too few observations of job" in output
    _diff(recordings, "base", "new", "--fail-if", "label:/nothing p50 > 1%", code=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("base",), "give two recordings, or a time that divides one"),
        ((), "give two recordings"),
        (("base", "new", "same"), "give two recordings, or one with --at"),
        (("base", "new", "--at", "14:00"), "--at divides one recording"),
        (("base", "--at", "yesteryear"), "--at 'yesteryear' must be a time, such as 5m"),
        (("base", "new", "--a-until", "5x"), "--a-until '5x' must be a time"),
        (("base", "nowhere"), "nowhere does not exist"),
        (("base", "new", "--fail-if", "p95 + 4"), "--fail-if 'p95 + 4' must be such as"),
    ],
)
def test_wrong_use_is_explained(recordings: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in _diff(recordings, *arguments, code=2).output


def test_a_recording_without_durations_is_an_error(recordings: Path) -> None:
    assert "no durations were recorded then" in _diff(recordings, "base", "empty", code=1).output
    output = _diff(recordings, "base", "new", "--label", "/z*", code=1).output
    assert "no durations of /z* were recorded then" in output


@pytest.mark.parametrize(
    "times", [("--at", "{}"), ("--a-until", "{}", "--b-since", "{}"), ("--b-since", "{}")]
)
def test_two_times_of_one_recording_are_compared(recordings: Path, times: tuple[str, ...]) -> None:
    middle_ns = EPOCH_NS + SECONDS // 2 * 10**9
    arguments = [each.format(middle_ns) for each in times]
    found = json.loads(_diff(recordings, "base", *arguments, "--json").output)
    overlap = times[0] == "--b-since"
    assert (found["a"]["end"] < found["b"]["begin"]) == (not overlap)
    assert found["b"]["begin"] >= "2023-11-14T22:14:20"
    assert found["b"]["recorded_s"] == pytest.approx(SECONDS / 2, abs=2)


def test_json_is_the_comparison(recordings: Path) -> None:
    found = json.loads(_diff(recordings, "base", "new", "--json", "--label", "/a*").output)
    assert [row["label"] for row in found["labels"]] == ["/a [GET]"]
    assert found["labels"][0]["verdicts"] == ["slower"]
    assert found["version"] == 1


def test_markdown_is_printed(recordings: Path) -> None:
    assert _diff(recordings, "base", "new", "--markdown").output.startswith("**")


def test_a_page_is_written_too(recordings: Path, tmp_path: Path) -> None:
    page = tmp_path / "diff.html"
    assert "common labels" in _diff(recordings, "base", "new", "--html", str(page)).output
    assert "/a [GET]" in page.read_text()
    missing = str(tmp_path / "nowhere" / "diff.html")
    assert "can't be written" in _diff(recordings, "base", "new", "--html", missing, code=1).output


def test_files_that_can_not_be_read_are_named(recordings: Path, tmp_path: Path) -> None:
    damaged = recording(5).write(tmp_path / "damaged")
    (damaged / "duration.foreign.csv").write_text("a,b\n1,2\n")
    output = _diff(recordings, "base", str(damaged), code=3).output
    assert "damaged: not read: duration.foreign.csv" in output
