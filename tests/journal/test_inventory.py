from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.journal.dead_writers import lock_dead_writers
from aqltelemetry.journal.inventory import mapped_headers, take_inventory
from aqltelemetry.journal.labels import TABLE_BYTES
from aqltelemetry.journal.writer import Writer
from fakes import writer_options


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_nobody_is_where_nothing_is(root: Path) -> None:
    assert take_inventory([root]).writers == []


def test_living_and_dead_writers_are_distinguished(root: Path) -> None:
    alive = Writer.in_journal(root, writer_options("/there"))
    dead = Writer.in_journal(root, writer_options("/there"))
    for writer in (alive, dead, dead):
        writer.new_segment()
    dead.close()
    found = {each.writer: each for each in take_inventory([root]).writers}
    assert found[alive.name].is_alive
    assert found[alive.name].segments == 1
    assert found[alive.name].pid == os.getpid()
    assert found[alive.name].directory == "/there"
    assert not found[dead.name].is_alive
    assert found[dead.name].segments == 2
    assert found[dead.name].size_bytes == 2 << 20
    assert [each.writer for each in take_inventory([root]).dead] == [dead.name]
    alive.close()


def test_a_writer_without_a_segment_has_not_said_its_pid(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    assert take_inventory([root]).writers[0].pid == 0
    assert take_inventory([root]).dead == []
    writer.close()


def test_looking_claims_nothing(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    writer.new_segment()
    writer.close()
    take_inventory([root])
    (dead,) = lock_dead_writers(root)
    dead.close()


def test_what_is_damaged_is_no_writers_fault(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    (root / writer.name / "000001.seg").write_bytes(b"damaged")
    (root / f"{writer.name}-000000.bad").touch()
    found = take_inventory([root])
    assert (found.writers[0].segments, found.damaged) == (1, 1)
    writer.close()


def test_a_process_is_asked_which_segments_it_has_in_memory(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options("/there"))
    segment = writer.new_segment()
    assert segment.header in list(mapped_headers(os.getpid()))
    writer.close()


def test_a_process_that_does_not_exist_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(mapped_headers(1, tmp_path))


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9", b"\xff\xfe", b"new\nline", b"\x85\x0b\x0c\x1c", b"a b", b"\xe2\x80\xa8", b"a\rb"],
)
def test_the_segments_of_a_process_are_found_wherever_they_are(tmp_path: Path, name: bytes) -> None:
    root = tmp_path / os.fsdecode(name)
    root.mkdir()
    writer = Writer.in_journal(root / "journal", writer_options(str(root)))
    segment = writer.new_segment()
    assert segment.header in list(mapped_headers(os.getpid()))
    assert segment.header.directory == str(root)
    writer.close()


def test_a_label_table_counts_among_what_a_writer_holds(root: Path) -> None:
    writer = Writer.in_journal(root, writer_options())
    writer.new_segment()
    before = take_inventory([root]).writers[0].size_bytes
    writer.make_table()
    assert take_inventory([root]).writers[0].size_bytes == before + TABLE_BYTES
    writer.close()
