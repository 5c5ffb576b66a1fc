from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result

from aqltelemetry.commands.cli import main
from aqltelemetry.shipping import run
from aqltelemetry.shipping.ledger import Ledger, PlannedFile
from aqltelemetry.shipping.target import Target
from memory_destination import AWAY, MemoryDestination, publish
from pages import ROOT

_URL, _OTHER = "postgresql://db/there", "postgresql://db/other"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> MemoryDestination:
    made = MemoryDestination()
    monkeypatch.setattr(run, "make_destination", lambda _: made)
    monkeypatch.setattr("aqltelemetry.shipping.backoff._LONGEST_S", 0.0)
    return made


def _run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, ["ship", *map(str, arguments)], env=environ)


def test_the_status_is_that_of_each_ledger(directory: Path, there: MemoryDestination) -> None:
    publish(directory, 1)
    assert _run("status", directory).output == f"nothing was shipped from {directory}\n"
    _run(directory, "--to", _URL)
    publish(directory, 2)
    lines = _run("status", directory).output.splitlines()
    assert lines[0] == f"{_URL} (not running)"
    assert re.fullmatch(r"  shipped: 1 file, 10 rows, 0\.0 MiB, the last \d+ s ago", lines[1])
    assert lines[2].startswith("  behind:  1 file, 0.0 MiB, the oldest published until ")
    assert lines[3:] == ["  refused: 0 files"]


def test_refused_files_are_named_and_give_a_status_of_their_own(
    directory: Path, there: MemoryDestination
) -> None:
    bad = publish(directory)
    there.refused = {bad: "it is damaged"}
    _run(directory, "--to", _URL)
    found = _run("status", directory)
    assert found.exit_code == 3
    assert f"    {bad}: it is damaged\n" in found.output


def test_a_destination_that_is_away_is_shown(directory: Path, there: MemoryDestination) -> None:
    publish(directory)
    there.failures = [AWAY] * 8
    assert _run(directory, "--to", _URL).exit_code == 3
    text = _run("status", directory).output
    assert re.search(r"^  can't be reached since \d+ s ago: away$", text, re.MULTILINE)


def test_one_destination_can_be_asked_for(directory: Path, there: MemoryDestination) -> None:
    publish(directory)
    _run(directory, "--to", _URL)
    assert _URL not in _run("status", directory, "--to", _OTHER).output
    found = _json("status", directory, "--to", _OTHER)["destinations"]
    assert [(each["destination"], each["ledger"]) for each in found] == [(_OTHER, None)]
    assert found[0]["behind"]["files"] == 1
    # A shipper's own variable does not choose.
    text = _run("status", directory, AQLTELEMETRY_SHIP_TO=_OTHER).output
    assert text.startswith(_URL)


def test_several_directories_are_shown_each(tmp_path: Path, there: MemoryDestination) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    publish(one)
    publish(two)
    _run(one, two, "--to", _URL)
    text = _run("status", one, two).output
    assert f"  behind:  0 files\n    {one}: 0 files\n    {two}: 0 files\n" in text
    assert [each["directory"] for each in _json("status", one)["destinations"][0]["directories"]]


def _json(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_run(*arguments, "--json").output)
    return found


def test_each_field_of_the_json_is_described(
    directory: Path, tmp_path: Path, there: MemoryDestination
) -> None:
    bad = publish(directory, 1)
    there.refused = {bad: "it is damaged"}
    _run(directory, "--to", _URL)
    publish(directory, 2)
    there.failures = [AWAY] * 8
    _run(directory, "--to", _URL)
    there.failures.clear()
    job = run.Job([str(directory)], Target(_URL))
    with Ledger(job.ledger_path, job.target.identity) as book:
        book.gone([PlannedFile("gone", 1)], 1)
    found = _json("status", directory)
    page = (ROOT / "docs" / "reference" / "ship-status-json.md").read_text()
    described = set(re.findall(r"`([\w.\[\]]+)`", page))
    fields = {name for name in _fields(found) if ".by_prefix." not in name}
    assert fields - described == set()
    assert found["version"] == 1
    (there_now,) = found["destinations"]
    assert there_now["refused"]["list"][0]["reason"] == "it is damaged"
    assert there_now["failure"]["reason"] == "away"
    assert there_now["removed_before"]["files"] == 1


def _fields(value: object, prefix: str = "") -> set[str]:
    if isinstance(value, dict):
        found = set()
        for key, each in value.items():
            name = f"{prefix}.{key}" if prefix else key
            found |= {name} | _fields(each, name)
        return found
    if isinstance(value, list):
        return {name for each in value for name in _fields(each, f"{prefix}[]")}
    return set()


def test_a_directory_of_that_name_is_given_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: MemoryDestination
) -> None:
    monkeypatch.chdir(tmp_path)
    publish(Path("status"))
    assert _run("./status", "--to", _URL).output.startswith("shipped 1 file")
    assert _run("status", "status").output.startswith(_URL)
    late = _run("--to", _URL, "status")
    assert late.exit_code == 2
    assert "status has to follow at once" in late.output
    assert "./status for a directory" in late.output


def _completed(*words: str) -> list[tuple[str, str]]:
    *given, incomplete = words
    shell = BashComplete(main, {}, "aqltelemetry", "_AQLTELEMETRY_COMPLETE")
    return [(each.type, each.value) for each in shell.get_completions(given, incomplete)]


def test_the_shell_completes_status_directories_and_options() -> None:
    assert _completed("ship", "") == [("dir", ""), ("plain", "status")]
    assert _completed("ship", "sta") == [("dir", "sta"), ("plain", "status")]
    assert _completed("ship", "x", "s") == [("dir", "s")]
    assert _completed("ship", "status", "s") == [("dir", "s")]
    options = [value for _, value in _completed("ship", "status", "--")]
    assert "--json" in options
    assert "--follow" not in options
    assert "--follow" in [value for _, value in _completed("ship", "--")]


def test_help_is_that_of_the_command() -> None:
    assert "ship status [OPTIONS] [DIR]..." in _run("status", "--help").output
    assert "ship status [DIR]..." in _run("--help").output


def test_a_ledger_that_cannot_be_read_is_an_error(directory: Path) -> None:
    (directory / ".ship").mkdir(parents=True)
    (directory / ".ship" / "x.sqlite").write_bytes(b"damaged" * 1000)
    found = _run("status", directory)
    assert found.exit_code == 1
    assert "not a database" in found.output
