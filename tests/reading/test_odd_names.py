"""Names that are not UTF-8, or contain separators, cause no failure."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry import Monitor, record
from aqltelemetry.audit.diagnose import examine_process
from aqltelemetry.commands.profile import recording_of
from aqltelemetry.reading.database import TelemetryDB

_NAMES = [b"\xff\xfe", b"new\nline\r", b"back\\012slash", b"a b\t", b"\x85\x0b\x1c", b"[x]*?%s{0}"]


def _published(directory: Path) -> int:
    files = [each for each in os.listdir(directory) if each.startswith("custom.")]
    return sum((directory / each).read_bytes().count(b"\n") - 1 for each in files)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("journal_dir", ["auto", "chosen"])
async def test_a_monitoring_directory_can_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes, journal_dir: str
) -> None:
    """So can the working directory, TMPDIR and the journal's directory."""
    odd = tmp_path / os.fsdecode(name)
    odd.mkdir()
    monkeypatch.chdir(odd)
    for variable in ("TMPDIR", "HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(odd))
    options = {} if journal_dir == "auto" else {"journal_dir": odd / "j"}
    async with Monitor(os.fsdecode(name), with_runtime=False, **options) as mine:  # type: ignore[arg-type]
        record("x", 1)
        assert mine.stats().is_crash_proof
        header = await asyncio.to_thread(recording_of, os.getpid())
        assert header.directory == str(odd / os.fsdecode(name))
        found = {each.matter: each.text for each in examine_process(os.getpid())}
        assert header.directory in found["directory"]
    assert _published(odd / os.fsdecode(name)) == 1


async def test_files_with_odd_names_in_the_directory_are_ignored(directory: Path) -> None:
    directory.mkdir()
    odd = [*_NAMES, b"duration.\xff.csv", "duration.\u0662\u0660.csv".encode()]
    for name in odd:
        (directory / os.fsdecode(name)).write_bytes(b"\xff")
    async with Monitor(directory, with_runtime=False, keep_bytes=1 << 20):
        record("x", 1)
    assert {os.fsencode(each) for each in os.listdir(directory)} > set(odd)
    assert TelemetryDB.from_csv_files(directory, "custom").labels() == ["x"]


async def test_a_process_can_have_any_name_and_arguments(directory: Path) -> None:
    """`doctor` reads them from /proc."""
    program = f"""
import asyncio, ctypes
from aqltelemetry import Monitor
ctypes.CDLL(None).prctl(15, b"\\xff\\n\\\\x", 0, 0, 0)
async def main():
    async with Monitor({str(directory)!r}, with_runtime=False):
        print("started", flush=True)
        await asyncio.to_thread(input)
asyncio.run(main())
"""
    odd = b"arg\xff\n\r\x1c"
    process = subprocess.Popen(
        [sys.executable, "-c", program, odd],
        env={**os.environ, "ODD": os.fsdecode(odd)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert recording_of(process.pid).pid == process.pid
        found = {each.matter: each.text for each in examine_process(process.pid)}
        assert found["process"].endswith(os.fsdecode(odd))
    finally:
        process.communicate(b"\n")


@pytest.mark.parametrize("command", ["verify", "doctor", "report", "off", "on", "recover"])
def test_commands_print_names_that_are_not_utf8(tmp_path: Path, command: str) -> None:
    directory = tmp_path / os.fsdecode(b"\xff\xfe")

    async def main() -> None:
        async with Monitor(directory):
            pass

    asyncio.run(main())
    done = subprocess.run(
        [sys.executable, "-m", "aqltelemetry", command, directory],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"") or command == "recover", done.stderr
    assert b"Traceback" not in done.stderr


async def test_a_directory_with_a_name_too_long_for_a_segment_is_recorded_into(
    tmp_path: Path,
) -> None:
    directory = tmp_path.joinpath(*["x" * 200] * 3)
    async with Monitor(directory, with_runtime=False) as mine:
        record("x", 1)
        assert mine.stats().is_crash_proof
    assert _published(directory) == 1
