from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from aqltelemetry import Monitor
from aqltelemetry.audit import diagnose
from aqltelemetry.audit.diagnose import Finding, examine, examine_environment, examine_process
from aqltelemetry.journal.location import journal_root
from aqltelemetry.journal.writer import Writer
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.system import extensions
from aqltelemetry.system.clock import epoch_ns
from fakes import writer_options


def _faults(found: Iterable[Finding]) -> dict[str, str]:
    return {each.matter: each.text for each in found if each.is_fault}


def _texts(found: Iterable[Finding]) -> dict[str, str]:
    return {each.matter: each.text for each in found}


async def test_a_recording_that_is_well_has_no_fault(directory: Path) -> None:
    async with Monitor(directory):
        found = list(examine(str(directory), {}))
    assert _faults(found) == {}
    told = _texts(found)
    assert f"process {os.getpid()}, writer " in told["recording"]
    assert told["switch"] == "on"
    assert str(directory) in told["journal"]
    assert told["published"].startswith("no file yet")


async def test_what_was_published_is_told_with_its_age(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Monitor(directory):
        pass
    now_ns = epoch_ns()
    monkeypatch.setattr("aqltelemetry.audit.diagnose.epoch_ns", lambda: now_ns + 100_000_000_000)
    told = _texts(examine(str(directory), {}))
    assert re.fullmatch(r"2 files, the newest 10[01] s ago", told["published"])
    assert told["recording"] == "no process records now"


def test_a_directory_that_is_not_there_is_not_made(directory: Path) -> None:
    told = _faults(examine(str(directory), {}))
    assert told["directory"] == f"{directory} does not exist; nothing was recorded there"
    assert not directory.exists()


def test_a_file_in_its_place_is_told(directory: Path) -> None:
    directory.touch()
    assert "is a file" in _faults(examine(str(directory), {}))["directory"]


def test_a_directory_that_cannot_be_written_to_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    assert "can write to (Permission denied)" in _faults(examine(str(directory), {}))["directory"]


def test_a_disk_that_is_nearly_full_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1 << 20}))
    assert "1 MiB free" in _faults(examine(str(directory), {}))["directory"]


def test_a_wrong_option_of_the_environment_is_told(directory: Path) -> None:
    told = _faults(examine(str(directory), {"AQLTELEMETRY_KEEP_S": "long"}))
    assert told["options"].startswith("AQLTELEMETRY_KEEP_S='long': must be a number of seconds")
    assert len(told) == 1


def test_a_journal_in_memory_is_told(directory: Path) -> None:
    directory.mkdir()
    told = _faults(examine(str(directory), {"AQLTELEMETRY_JOURNAL_DIR": "memory"}))
    assert "in memory only" in told["journal"]


def test_a_journal_that_others_may_write_to_is_told(directory: Path) -> None:
    directory.mkdir()
    root = journal_root(str(directory), str(directory.parent / "journal"))
    root.chmod(0o777)
    environ = {"AQLTELEMETRY_JOURNAL_DIR": str(directory.parent / "journal")}
    assert "no other may write to it" in _faults(examine(str(directory), environ))["journal"]


def test_what_the_dead_left_is_a_fault_where_nobody_lives_to_publish_it(directory: Path) -> None:
    directory.mkdir()
    root = journal_root(str(directory))
    writer = Writer.in_journal(root, writer_options(str(directory)))
    writer.new_segment()
    writer.close()
    (root / f"{writer.name}-000000.bad").touch()
    told = _faults(examine(str(directory), {}))
    assert told["damaged"] == "1 segment set aside"
    assert "unpublished" not in told  # it recorded nothing


def test_a_switch_that_is_off_is_told_with_the_way_back(directory: Path) -> None:
    directory.mkdir()
    ControlFiles(str(directory)).switch(on=False)
    assert _faults(examine(str(directory), {}))["switch"] == (
        f"off; switch it on with: aqltelemetry on {directory}"
    )


def test_of_many_processes_some_are_listed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    monkeypatch.setattr(diagnose, "_MAX_LISTED", 1)
    root = journal_root(str(directory))
    writers = [Writer.in_journal(root, writer_options(str(directory))) for _ in range(3)]
    found = [each.text for each in examine(str(directory), {}) if each.matter == "recording"]
    assert len(found) == 2
    assert found[1] == "and 2 processes more"
    for writer in writers:
        writer.close()


async def test_a_process_that_records_is_examined_with_its_directory(directory: Path) -> None:
    async with Monitor(directory):
        told = _texts(examine_process(os.getpid()))
    assert told["process"].startswith(f"{os.getpid()}: ")
    assert str(directory) in told["directory"]
    assert told["switch"] == "on"


@pytest.mark.parametrize(
    ("command", "environ", "why"),
    [
        (("sleep", "60"), {}, "none: it is not a Python process"),
        ((sys.executable, "-c", "input()"), {}, "not started by `aqltelemetry run`"),
        (
            (sys.executable, "-c", "input()"),
            {"AQLTELEMETRY_RUN": "hosts"},
            "serves no known framework",
        ),
    ],
)
def test_a_process_that_does_not_record_is_told_why(
    tmp_path: Path, command: tuple[str, ...], environ: dict[str, str], why: str
) -> None:
    """And what it would record into, as it sees it."""
    (tmp_path / "there").mkdir()
    environ = {**os.environ, "AQLTELEMETRY_DIR": "there", **environ}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path, env=environ)
    try:
        found = list(examine_process(process.pid))
    finally:
        process.kill()
        process.communicate()
    assert why in _faults(found)["recording"]
    is_python = command[0] == sys.executable
    assert is_python == (str(tmp_path / "there") in _texts(found).get("directory", ""))


def test_a_process_that_there_is_not_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(examine_process(1, tmp_path))


def test_the_environment_is_told() -> None:
    told = _texts(examine_environment())
    assert sys.executable in told["python"]
    assert told["hot path"] == extensions.in_use()
    assert told["yappi"].startswith("installed")


@pytest.mark.parametrize("version", ["3.14.0", "4.0.0a2"])
def test_an_aiohttp_that_is_not_known_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("aiohttp.__version__", version)
    told = [each for each in examine_environment() if each.matter == "aiohttp"]
    assert len(told) == (version == "4.0.0a2")
    assert all("4.0.0a2 is not known" in each.text and not each.is_fault for each in told)
