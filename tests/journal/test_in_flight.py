from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import in_flight as fmt
from aqltelemetry.journal.dead_writers import lock_dead_writers
from aqltelemetry.journal.in_flight import FILE_BYTES, FILE_NAME, pack_slot, read_in_flight
from aqltelemetry.journal.writer import Writer
from aqltelemetry.system import syscalls
from fakes import writer_options


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return path


def test_the_file_is_private_allocated_and_removed_at_the_end(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    assert writer.path is not None
    writer.make_in_flight(3, 4, "boot")
    status = (writer.path / FILE_NAME).stat()
    assert (status.st_size, status.st_mode & 0o777) == (FILE_BYTES, 0o600)
    assert status.st_blocks * 512 >= FILE_BYTES  # so no store meets a full disk
    found = read_in_flight((writer.path / FILE_NAME).read_bytes())
    assert found.header == (writer.name, os.getpid(), 3, 4, "boot")
    writer.close()
    assert not root.exists()


@pytest.mark.parametrize("call", ["open_file", "allocate", "map_file", "rename"])
def test_a_file_that_can_not_be_made_leaves_nothing(
    root: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    writer = Writer.in_journal(root, writer_options())
    assert writer.path is not None
    monkeypatch.setattr(syscalls, call, fail)
    with pytest.raises(OSError, match="no space"):
        writer.make_in_flight(3, 4, "")
    assert list(writer.path.iterdir()) == []
    monkeypatch.undo()
    writer.close()


def test_a_writer_in_memory_has_slots_in_memory() -> None:
    mapped = Writer.in_memory(writer_options()).make_in_flight(3, 4, "")
    assert read_in_flight(mapped[:]).requests == []


def test_a_file_of_another_kind_is_refused(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    data = writer.make_in_flight(3, 4, "")[:]
    writer.close()
    for wrong in (
        b"",
        data[:100],
        bytes(FILE_BYTES),
        b"x" + data[1:],
        data[:20] + b"x" + data[21:],
    ):
        with pytest.raises(SegmentError):
            read_in_flight(wrong)


def test_a_slot_of_no_kind_or_too_long_is_damaged() -> None:
    data = bytearray(fmt.FILE_BYTES)
    for kind, length in ((0, 5), (1, 225)):
        entry = bytearray(pack_slot(fmt.SLOTS_AT, kind, 1, 2, b"GET /"))
        entry[0] = length
        data[fmt.SLOTS_AT : fmt.SLOTS_AT + len(entry)] = entry
        with pytest.raises(SegmentError, match="slot 0"):
            fmt.read_slot(bytes(data), 0)


def test_a_dead_writer_without_segments_is_locked_for_its_autopsy(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    writer.make_in_flight(3, 4, "")
    assert list(lock_dead_writers(root)) == []
    assert writer.path is not None
    assert writer.path.exists()
    writer.abandon_in_child()  # closes the lock, as the end of a process does
    (dead,) = lock_dead_writers(root)
    assert (dead.path, dead.segments, dead.has_evidence) == (writer.path, [], True)
    dead.close()
    assert writer.path.exists()
    (dead,) = lock_dead_writers(root)
    dead.finish()
    assert not writer.path.exists()
    assert list(lock_dead_writers(root)) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recording import in_flight
sys.path.insert(0, {tests!r})
from fakes import writer_options
writer = Writer.in_journal(Path({root!r}), writer_options())
in_flight.install(writer.make_in_flight(0, 0, ""))
for number in range(100):
    in_flight.release(in_flight.claim("GET", f"/over/{{number}}", number))
in_flight.claim("GET", "/slow", 1)
print(flush=True)
while True:
    in_flight.release(in_flight.claim("GET", "/fast", 2))
"""


@pytest.mark.system
def test_what_was_in_flight_survives_a_kill(root: Path) -> None:
    code = _KILLED.format(root=str(root), tests=str(Path(__file__).parents[1]))
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (path,) = root.glob(f"*/{FILE_NAME}")
        found = read_in_flight(path.read_bytes())
        texts = [each.text for each in found.requests]
        assert (texts[0], found.damaged) == ("GET /slow", 0)
        assert texts[1:] in ([], ["GET /fast"])
        assert found.header.pid == process.pid
        shutil.rmtree(path.parent)
