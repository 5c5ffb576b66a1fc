from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aqltelemetry import TelemetryDB
from aqltelemetry.commands.cli import main
from fakes import EPOCH_NS
from recordings import Recording, Route

_AT = str(EPOCH_NS + 50 * 10**9)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recording = Recording(60.0, seed=2)
    for _ in range(2):
        recording.add_worker().serve(Route("/orders/{id} [GET]", outcomes={"5xx": 0.1}))
    recording.workers[0].serve(Route("/search [GET]", median_s=0.2))
    return recording.write(tmp_path_factory.mktemp("recorded"))


def _run(*arguments: str, columns: int = 120) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(main, ["top", *arguments])


def test_once_prints_a_screen_as_plain_text(directory: Path) -> None:
    result = _run(str(directory), "--at", _AT, "--once", "--window", "10s")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "10s of it recorded" in result.output
    (line,) = (line for line in result.output.splitlines() if "/search [GET]" in line)
    db = TelemetryDB(directory, since=(EPOCH_NS // 10**9 + 40), until=(EPOCH_NS // 10**9 + 50))
    assert int(line.split()[2]) == db.summary()["count"]["/search [GET]"]
    assert sum("running" in line for line in result.output.splitlines()) == 2


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_is_longer_than_the_terminal(directory: Path, columns: int) -> None:
    result = _run(str(directory), "--at", _AT, "--once", columns=columns)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= columns


def test_the_json_of_a_window_is_the_document_of_its_time(directory: Path) -> None:
    result = _run(str(directory), "--at", _AT, "--json", "--window", "10s")
    made = json.loads(result.output)
    db = TelemetryDB(directory, since=(EPOCH_NS // 10**9 + 40), until=(EPOCH_NS // 10**9 + 50))
    rows = {row["label"]: row for row in made["durations"]}
    assert made["version"] == 1
    for label, expected in db.summary().iterrows():
        assert rows[str(label)]["count"] == expected["count"]
        assert rows[str(label)]["p99_s"] == pytest.approx(expected["p99_s"], rel=1e-12)


def test_rows_are_sorted_and_filtered(directory: Path) -> None:
    result = _run(str(directory), "--at", _AT, "--once", "--sort", "p99")
    labels = [line.split()[0] for line in result.output.splitlines() if line.startswith(" /")]
    assert labels == ["/search", "/orders/{id}"]
    result = _run(str(directory), "--at", _AT, "--once", "--filter", "*search*")
    labels = [line.split()[0] for line in result.output.splitlines() if line.startswith(" /")]
    assert labels == ["/search"]
    assert result.output.count("running") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "nothing", "--once"], "must be a column: label, count, per s"),
        (["--at", "yesteryear"], "--at 'yesteryear' must be a time"),
        (["--interval", "0"], "--interval '0' must be a time from 0.2s to 1h"),
        (["--window", "7m"], "Invalid value for '--window'"),
        ([], "the live view needs a terminal; use --once or --json in a pipe"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(
    directory: Path, arguments: list[str], message: str
) -> None:
    result = _run(str(directory), *arguments)
    assert result.exit_code != 0
    assert message in result.output


def test_a_journal_that_can_not_be_read_is_mentioned(directory: Path) -> None:
    result = _run(str(directory), "--once", "--journal-dir", "/dev/null/x")
    assert "not read: /dev/null/x" in result.output
    assert "Not a directory" in " ".join(result.output.split())


def test_a_directory_that_does_not_exist_is_an_error_of_once(tmp_path: Path) -> None:
    result = _run(str(tmp_path / "x"), "--once")
    assert result.exit_code == 1
    assert "x does not exist yet" in result.output


def test_sparklines_are_ascii_where_nothing_else_can_be_printed(directory: Path) -> None:
    runner = CliRunner(charset="ascii")
    result = runner.invoke(main, ["top", str(directory), "--at", _AT, "--once"])
    assert result.exit_code == 0
    assert result.output.isascii()
    assert "\\u" not in result.output
