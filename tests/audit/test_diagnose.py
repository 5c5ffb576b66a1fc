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
from servers import wait_until


def _faults(found: Iterable[Finding]) -> dict[str, str]:
    return {each.matter: each.text for each in found if each.is_fault}


def _texts(found: Iterable[Finding]) -> dict[str, str]:
    return {each.matter: each.text for each in found}


async def test_a_working_recording_has_no_fault(directory: Path) -> None:
    async with Monitor(directory):
        found = list(examine(str(directory), {}))
    assert _faults(found) == {}
    shown = _texts(found)
    assert f"process {os.getpid()}, writer " in shown["recording"]
    assert shown["switch"] == "on"
    assert str(directory) in shown["journal"]
    assert shown["published"].startswith("no file yet")


async def test_the_age_of_the_newest_file_is_shown(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Monitor(directory):
        pass
    now_ns = epoch_ns()
    monkeypatch.setattr("aqltelemetry.audit.diagnose.epoch_ns", lambda: now_ns + 100_000_000_000)
    shown = _texts(examine(str(directory), {}))
    assert re.fullmatch(r"2 files, the newest 10[01] s ago", shown["published"])
    assert shown["recording"] == "no process records now"


def test_a_missing_directory_is_a_fault_and_is_not_created(directory: Path) -> None:
    shown = _faults(examine(str(directory), {}))
    assert shown["directory"] == f"{directory} does not exist; nothing was recorded there"
    assert not directory.exists()


def test_a_file_instead_of_the_directory_is_a_fault(directory: Path) -> None:
    directory.touch()
    assert "is a file" in _faults(examine(str(directory), {}))["directory"]


def test_a_directory_that_cannot_be_written_to_is_a_fault(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    assert "can write to (Permission denied)" in _faults(examine(str(directory), {}))["directory"]


def test_a_nearly_full_disk_is_a_fault(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1 << 20}))
    assert "1 MiB free" in _faults(examine(str(directory), {}))["directory"]


def test_a_wrong_option_in_the_environment_is_a_fault(directory: Path) -> None:
    shown = _faults(examine(str(directory), {"AQLTELEMETRY_KEEP_S": "long"}))
    assert shown["options"].startswith("AQLTELEMETRY_KEEP_S='long': must be a number of seconds")
    assert len(shown) == 1


def test_a_journal_in_memory_is_a_fault(directory: Path) -> None:
    directory.mkdir()
    shown = _faults(examine(str(directory), {"AQLTELEMETRY_JOURNAL_DIR": "memory"}))
    assert "in memory only" in shown["journal"]


def test_a_journal_that_other_users_may_write_to_is_a_fault(directory: Path) -> None:
    directory.mkdir()
    root = journal_root(str(directory), str(directory.parent / "journal"))
    root.chmod(0o777)
    environ = {"AQLTELEMETRY_JOURNAL_DIR": str(directory.parent / "journal")}
    assert "no other may write to it" in _faults(examine(str(directory), environ))["journal"]


def test_segments_that_were_set_aside_are_a_fault(directory: Path) -> None:
    directory.mkdir()
    root = journal_root(str(directory))
    writer = Writer.in_journal(root, writer_options(str(directory)))
    writer.new_segment()
    writer.close()
    (root / f"{writer.name}-000000.bad").touch()
    shown = _faults(examine(str(directory), {}))
    assert shown["damaged"] == "1 segment set aside"
    assert "unpublished" not in shown  # it recorded nothing


def test_a_recording_that_is_switched_off_is_a_fault_that_names_the_remedy(directory: Path) -> None:
    directory.mkdir()
    ControlFiles(str(directory)).switch(on=False)
    assert _faults(examine(str(directory), {}))["switch"] == (
        f"off; switch it on with: aqltelemetry on {directory}"
    )


def test_only_some_of_many_processes_are_listed(
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
        shown = _texts(examine_process(os.getpid()))
    assert shown["process"].startswith(f"{os.getpid()}: ")
    assert str(directory) in shown["directory"]
    assert shown["switch"] == "on"


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
def test_a_process_that_does_not_record_is_a_fault_with_a_reason(
    tmp_path: Path, command: tuple[str, ...], environ: dict[str, str], why: str
) -> None:
    """And what it would record into, as it sees it."""
    (tmp_path / "there").mkdir()
    environ = {**os.environ, "AQLTELEMETRY_DIR": "there", **environ}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=tmp_path, env=environ)
    try:
        command_line = Path(f"/proc/{process.pid}/cmdline")
        wait_until(lambda: bool(command_line.read_bytes()), "a program that runs")
        found = list(examine_process(process.pid))
    finally:
        process.kill()
        process.communicate()
    assert why in _faults(found)["recording"]
    is_python = command[0] == sys.executable
    assert is_python == (str(tmp_path / "there") in _texts(found).get("directory", ""))


def test_a_missing_process_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(examine_process(1, tmp_path))


def test_the_environment_is_shown() -> None:
    shown = _texts(examine_environment())
    assert sys.executable in shown["python"]
    assert shown["hot path"] == extensions.in_use()
    assert shown["yappi"].startswith("installed")


@pytest.mark.parametrize("version", ["3.14.0", "4.0.0a2"])
def test_an_unknown_version_of_aiohttp_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("aiohttp.__version__", version)
    shown = [each for each in examine_environment() if each.matter == "aiohttp"]
    assert len(shown) == (version == "4.0.0a2")
    assert all("4.0.0a2 is not known" in each.text and not each.is_fault for each in shown)
