from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.dir_lock import lock
from aqltelemetry.journal.labels import TABLE_NAME
from aqltelemetry.journal.writer import Writer
from fakes import writer_options
from injection import Fault, injected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return path


def test_a_segment_has_its_full_size_and_is_private(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    segment = writer.new_segment()
    assert segment.path is not None
    status = segment.path.stat()
    assert status.st_size == fmt.SEGMENT_BYTES
    assert status.st_blocks * 512 >= fmt.SEGMENT_BYTES  # so no store meets a full disk
    assert status.st_mode & 0o777 == 0o600
    segment.path.unlink()
    writer.close()


def test_making_a_segment_is_cut_into_pieces(root: Path) -> None:
    """Else the event loop would wait for all of it, where both have but one processor."""
    writer = Writer.in_journal(root, writer_options())
    rests: list[int] = []
    segment = writer.new_segment(yield_gil=lambda: rests.append(1))
    touched = fmt.SEGMENT_BYTES - fmt.RECORDS_AT
    assert len(rests) >= 2 + touched // (256 << 10)
    assert segment.path is not None
    segment.path.unlink()
    writer.close()


def test_segments_are_numbered_and_say_where_they_belong(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options("/data", 4096))
    segments = [writer.new_segment() for _ in range(3)]
    heads = [fmt.unpack_header(segment.map[:]) for segment in segments]
    assert [head.sequence for head in heads] == [1, 2, 3]
    assert {(head.directory, head.max_file_bytes, head.pid) for head in heads} == {
        ("/data", 4096, os.getpid())
    }
    assert len({head.id_base for head in heads}) == 3
    writer.close()


def test_a_living_writer_is_locked_and_a_closed_one_is_not(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    assert writer.path is not None
    writer.new_segment()
    assert lock(writer.path) is None
    writer.close()
    fd = lock(writer.path)
    assert fd is not None
    os.close(fd)


def test_an_empty_writer_leaves_nothing_not_even_the_root(root: Path) -> None:
    Writer.in_journal(root, writer_options()).close()
    assert not root.exists()


def test_a_root_that_vanished_is_made_again(root: Path) -> None:
    root.rmdir()
    Writer.in_journal(root, writer_options()).close()


def test_closing_twice_is_harmless(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    writer.close()
    writer.close()


def test_a_segment_that_can_not_be_allocated_leaves_no_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, offset: int, length: int) -> None:
        os.ftruncate(fd, length)  # as ext4 does before it gives up
        raise OSError(errno.ENOSPC, "no space left")

    writer = Writer.in_journal(root, writer_options())
    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="no space"):
        writer.new_segment()
    assert writer.path is not None
    assert list(writer.path.iterdir()) == []
    monkeypatch.undo()
    assert writer.new_segment().header.sequence == 1
    writer.close()


def test_the_last_of_the_free_space_is_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer.in_journal(root, writer_options())
    full = os.statvfs_result((4096, 4096, 1 << 20, 200, 200, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    with pytest.raises(OSError, match="free space") as caught:
        writer.new_segment()
    assert caught.value.errno == errno.ENOSPC
    writer.close()


def test_a_kill_frees_the_lock_while_a_forked_child_lives(root: Path, tmp_path: Path) -> None:
    """Neither the lock's descriptor nor a mapping that a child inherited keeps it."""
    program = """
import os, signal, sys
from pathlib import Path
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.writer import WriterOptions, Writer
writer = Writer.in_journal(Path(sys.argv[1]), WriterOptions("/x", 4096, lambda: 0, LabelLimit()))
segment = writer.new_segment()
os.register_at_fork(after_in_child=writer.abandon_in_child)
read, write = os.pipe()
if os.fork() == 0:
    os.write(1, b"%d %s" % (os.getpid(), str(writer.path).encode()))
    os.close(1)
    signal.pause()
os.waitpid(-1, 0)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child, path = os.read(parent.stdout.fileno(), 4096).decode().split()
        assert lock(Path(path)) is None
        parent.kill()
    try:
        fd = lock(Path(path))
        assert fd is not None
        os.close(fd)
    finally:
        os.kill(int(child), 9)


def test_a_writer_in_memory_needs_no_file() -> None:
    writer = Writer.in_memory(writer_options())
    assert writer.path is None
    assert writer.new_segment().path is None
    writer.close()


def test_processes_that_come_and_go_at_once_do_not_disturb_each_other(root: Path) -> None:
    """A root that one removes because it is empty is no obstacle for another."""
    program = """
import sys
from pathlib import Path
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.writer import WriterOptions, Writer
for _ in range(60):
    Writer.in_journal(Path(sys.argv[1]), WriterOptions("/x", 4096, lambda: 0, LabelLimit())).close()
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, str(root)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]


def test_segments_made_after_a_label_table_share_it(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    before = writer.new_segment()
    table = writer.make_table()
    after = writer.new_segment()
    assert (before.table, after.table) == (None, table)
    for segment in (before, after):
        assert segment.path is not None
        segment.path.unlink()
    writer.close()
    assert not root.exists()


def test_a_label_table_is_left_for_the_recovery_of_the_segments(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    writer.make_table()
    writer.new_segment()
    writer.close()
    assert writer.path is not None
    assert sorted(each.name for each in writer.path.iterdir()) == ["000001.seg", TABLE_NAME]


def test_a_label_table_that_can_not_be_allocated_leaves_no_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    writer = Writer.in_journal(root, writer_options())
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fail)
        with pytest.raises(OSError, match="no space"):
            writer.make_table()
    assert writer.path is not None
    assert list(writer.path.iterdir()) == []
    assert writer.table is None
    writer.close()


def test_a_label_table_of_a_writer_in_memory_needs_no_file() -> None:
    writer = Writer.in_memory(writer_options())
    table = writer.make_table()
    assert writer.table_bytes == 0
    assert writer.new_segment().table is table
    writer.close()


def test_a_label_table_that_somebody_removed_is_used_no_more(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    writer.make_table()
    shutil.rmtree(root)
    segment = writer.new_segment()
    assert (writer.table, segment.table) == (None, None)
    shutil.rmtree(root)
    table = writer.make_table()
    assert writer.new_segment().table is table
    assert writer.path is not None
    assert sorted(each.name for each in writer.path.iterdir()) == ["000002.seg", TABLE_NAME]
    writer.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EIO])
def test_a_writer_whose_directory_could_not_be_locked_again_does_so_later(
    root: Path, number: int
) -> None:
    """Whichever system call of the new directory and segment fails."""
    for nth in itertools.count(1):
        writer = Writer.in_journal(root, writer_options())
        shutil.rmtree(root)
        with injected(Fault(nth, number)) as fault:
            for _ in range(3):
                with suppress(OSError):
                    writer.new_segment()
        where = f"call {nth} failed: {fault.struck}"
        assert writer.path is not None
        segment = writer.new_segment()
        assert segment.path is not None, where
        assert segment.path.exists(), where
        assert lock(writer.path) is None, f"not locked, {where}"
        writer.close()
        held = lock(writer.path)
        assert held is not None, f"still locked, {where}"
        os.close(held)
        shutil.rmtree(root)
        if not fault.struck:
            break
    assert nth > 10


def test_a_lock_is_not_given_up_for_a_file_that_somebody_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or others would recover segments that are being recorded to."""
    writer = Writer.in_journal(root, writer_options())
    writer.new_segment()
    assert writer.path is not None
    rename = os.rename

    def gone(path: Path, other: Path) -> None:
        path.unlink()
        rename(path, other)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", gone)
        with pytest.raises(FileNotFoundError):
            writer.new_segment()
    assert lock(writer.path) is None
    assert writer.new_segment().header.sequence == 2
    writer.close()
