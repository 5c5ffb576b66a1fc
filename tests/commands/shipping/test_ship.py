from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aqltelemetry.archive.compact import compact
from aqltelemetry.commands.cli import main
from aqltelemetry.shipping import run
from aqltelemetry.shipping.destination import CannotBeAsked, Unavailable
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.target import Origin, Target
from memory_destination import AWAY, MemoryDestination, publish
from segments import record

_URL = "postgresql://db/there"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> _There:
    made = _There()
    monkeypatch.setattr(run, "make_destination", made.make)
    return made


class _There(MemoryDestination):
    """A destination in memory that is made for any URL."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Target] = []

    def make(self, target: Target) -> _There:
        self.targets.append(target)
        return self


def _ship(directory: Path, *options: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["ship", str(directory), *options], env=environ)


def test_files_are_shipped_and_summed_up(directory: Path, there: _There) -> None:
    publish(directory, 1)
    publish(directory, 2)
    result = _ship(directory, "--to", _URL, "--service", "shop", "--host", "h")
    assert result.exit_code == 0
    assert result.output == f"shipped 2 files, 20 rows, 0.0 MiB to {_URL}\n"
    assert there.targets[0].origin == Origin("h", "shop", "")
    assert len(there.targets[-1].shipper) == 16
    assert (directory / ".ship").is_dir()


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:hunter2@db/there", "postgresql://db/there?password=hunter2"],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(
    directory: Path, there: _There, url: str
) -> None:
    publish(directory)
    result = _ship(directory, "--to", url)
    assert result.exit_code == 2
    assert "AQLTELEMETRY_SHIP_TO or --credentials" in result.output
    assert "hunter2" not in result.output
    assert _ship(directory, AQLTELEMETRY_SHIP_TO=url).exit_code == 0
    assert there.targets[0].url == url


@pytest.mark.parametrize(
    ("line", "netloc"),
    [("me:p@ss/w", "me:p%40ss%2Fw@db"), ("t0ken", "user:t0ken@db")],
)
def test_credentials_are_read_from_a_file(
    directory: Path, tmp_path: Path, there: _There, line: str, netloc: str
) -> None:
    publish(directory)
    file = tmp_path / "secret"
    file.write_text(f"{line}\n")
    url = "postgresql://user@db/there"
    assert _ship(directory, "--to", url, "--credentials", str(file)).exit_code == 0
    assert there.targets[0].parts.netloc == netloc


@pytest.mark.parametrize("text", ["", "a\nb\n"])
def test_a_file_of_credentials_has_one_line(directory: Path, tmp_path: Path, text: str) -> None:
    directory.mkdir()
    file = tmp_path / "secret"
    file.write_text(text)
    result = _ship(directory, "--to", _URL, "--credentials", str(file))
    assert result.exit_code == 2
    assert "must have one line" in result.output


def test_a_second_shipper_ends_with_a_status_of_its_own(directory: Path, there: _There) -> None:
    publish(directory)
    job = run.Job([str(directory)], Target(_URL))
    with Ledger(job.ledger_path, job.target.identity):
        result = _ship(directory, "--to", _URL)
    assert result.exit_code == 4
    assert f"another process ships to {_URL} already" in result.output


def test_refused_files_give_a_status_of_their_own(directory: Path, there: _There) -> None:
    bad = publish(directory)
    there.refused = {bad: "it is damaged"}
    result = _ship(directory, "--to", _URL)
    assert result.exit_code == 3
    assert f"refused: {bad}: it is damaged" in result.output


def test_a_destination_that_stays_away_is_given_up(
    directory: Path, there: _There, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqltelemetry.shipping.backoff._LONGEST_S", 0.0)
    publish(directory)
    there.failures = [AWAY] * 8
    result = _ship(directory, "--to", _URL)
    assert result.exit_code == 3
    assert f"{_URL} can't be reached: away" in result.output


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://[bad",
        "postgresql://me:hunter2/x@db/there",
        "postgresql://me:12/hunter2@db/there",
        "postgresql://me:12#hunter2@db/there",
        "postgresql://me:12?hunter2@db/there",
    ],
)
def test_what_is_not_a_url_is_an_error_that_does_not_repeat_it(directory: Path, url: str) -> None:
    directory.mkdir()
    for options in ((), ("--dry-run",), ("--check",)):
        result = _ship(directory, *options, AQLTELEMETRY_SHIP_TO=url)
        assert result.exit_code == 1
        assert "is not a URL; in a user and a password, write / as %2F" in result.output
        assert "hunter2" not in result.output
        assert isinstance(result.exception, SystemExit)
    assert not (directory / ".ship").exists()


def test_a_check_of_what_was_never_shipped_says_so(directory: Path, there: _There) -> None:
    publish(directory)
    result = _ship(directory, "--to", _URL, "--check")
    assert result.exit_code == 1
    assert "it does not exist: nothing was shipped yet" in result.output
    assert _ship(directory, "--to", _URL, "--check", "--dry-run").exit_code == 2


def test_a_destination_that_cannot_be_made_leaves_no_ledger(directory: Path) -> None:
    publish(directory)
    assert _ship(directory, "--to", "http://db/there").exit_code == 1
    assert not (directory / ".ship").exists()


def test_refused_files_are_sent_again_where_that_is_wanted(directory: Path, there: _There) -> None:
    bad = publish(directory)
    there.refused = {bad: "it is damaged"}
    assert "0 files, 0 rows, 0.0 MiB" in _ship(directory, "--to", _URL).output
    there.refused = {}
    assert _ship(directory, "--to", _URL).output.startswith("shipped 0 files")
    again = _ship(directory, "--to", _URL, "--retry-refused")
    assert again.output == f"shipped 1 file, 10 rows, 0.0 MiB to {_URL}\n"


def test_a_relative_directory_is_shipped_by_each_destination(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in archives too."""
    record(directory, processes=1, segments=2)
    compact(str(directory), older_than_ns=0)
    record(directory, processes=1, segments=1, seed=1)
    monkeypatch.chdir(directory.parent)
    result = _ship(Path(directory.name), "--to", f"file://{tmp_path / 'there'}")
    assert result.output.startswith("shipped 12 files, ")
    assert result.exit_code == 0


def test_a_url_is_needed(directory: Path) -> None:
    directory.mkdir()
    assert "give --to, or set AQLTELEMETRY_SHIP_TO" in _ship(directory).output


def test_an_unknown_kind_of_url_is_an_error_without_its_secrets(directory: Path) -> None:
    directory.mkdir()
    result = _ship(directory, AQLTELEMETRY_SHIP_TO="gopher://me:hunter2@db/there")
    assert result.exit_code == 1
    assert "must be a URL that begins with" in result.output
    assert "hunter2" not in result.output


def test_a_dry_run_connects_to_nothing_and_writes_nothing(directory: Path, there: _There) -> None:
    publish(directory, 1)
    publish(directory, 2, prefix="runtime")
    result = _ship(directory, "--to", _URL, "--dry-run")
    assert result.output == f"would ship 2 files, 0.0 MiB to {_URL}: 1 duration, 1 runtime\n"
    assert there.targets == []
    assert not (directory / ".ship").exists()


def test_a_check_finds_what_the_destination_lost(directory: Path, there: _There) -> None:
    name = publish(directory, 1)
    publish(directory, 2)
    _ship(directory, "--to", _URL)
    equal = _ship(directory, "--to", _URL, "--check")
    assert equal.exit_code == 0
    assert equal.output.endswith("compared 2 files with 20 rows: all is there\n")
    del there.rows[name]
    differs = _ship(directory, "--to", _URL, "--check")
    assert differs.exit_code == 1
    assert f"{name} is not there\n" in differs.output


def test_a_check_of_a_destination_that_is_away_is_incomplete(
    directory: Path, there: _There, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(directory, 1)
    _ship(directory, "--to", _URL)

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(there, "open", away)
    assert _ship(directory, "--to", _URL, "--check").exit_code == 3


def test_a_destination_that_cannot_be_asked_has_a_status_of_its_own(
    directory: Path, there: _There, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(directory, 1)
    _ship(directory, "--to", _URL)

    async def mute(_notes: Mapping[str, str]) -> list[str]:
        raise CannotBeAsked("it is mute")

    monkeypatch.setattr(there, "check_totals", mute, raising=False)
    result = _ship(directory, "--to", _URL, "--check")
    assert (result.exit_code, result.output) == (3, "nothing was compared: it is mute\n")


@pytest.mark.parametrize("text", ["0", "soon", "-1s"])
def test_a_time_is_above_zero(directory: Path, text: str) -> None:
    directory.mkdir()
    result = _ship(directory, "--to", _URL, "--delete-after", text)
    assert result.exit_code == 2
    assert "is not a time above 0" in result.output
