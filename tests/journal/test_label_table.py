from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import (
    MAX_LABELS,
    NO_LABELS,
    TABLE_BYTES,
    TABLE_NAME,
    TABLE_SLOTS,
    LabelTable,
    TableLabels,
    random_table_base,
    read_table,
)
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import CUSTOM, DURATION, Kind, Series
from fakes import writer_options

_ENTRIES_AT = TABLE_BYTES - TABLE_SLOTS * fmt.LABEL_SLOT_BYTES


def _series_of(label: str) -> Series:
    return Series(DURATION, label, Kind.NANOSECONDS)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer.in_journal(tmp_path / "journal", writer_options())
    yield writer
    writer.close()


@pytest.fixture
def directory(writer: Writer) -> Path:
    assert writer.path is not None
    return writer.path


def _filled(writer: Writer, count: int = 100) -> TableLabels:
    """Make a table with labels in it; return what a reader should find."""
    table = writer.make_table()
    for number in range(count):
        table.register(f"/{number}", _series_of(f"/{number}"))
    return table.labels


def test_it_has_room_for_every_label_that_a_process_may_have() -> None:
    table = LabelTable(None, random_table_base())
    ids = [table.register(f"/{number}", _series_of(f"/{number}")) for number in range(MAX_LABELS)]
    assert None not in ids
    assert len(set(ids)) == MAX_LABELS


def test_a_full_one_gives_out_no_id_but_knows_its_labels() -> None:
    table = LabelTable(None, random_table_base())
    ids = [table.register(f"/{number}", _series_of("/")) for number in range(TABLE_SLOTS)]
    assert table.register("one more", _series_of("one more")) is None
    assert table.register("/5", _series_of("/")) == ids[5]


def test_a_series_has_one_id_however_often_it_is_registered() -> None:
    table = LabelTable(None, random_table_base())
    value = Series(CUSTOM, "/a", Kind.FLOAT)
    assert table.register("/a", _series_of("/a")) == table.register("/a", _series_of("/a"))
    assert table.register("/a", _series_of("/a")) != table.register((CUSTOM, "/a"), value)


def test_other_keys_of_its_series_do_not_fill_the_memory() -> None:
    table = LabelTable(None, random_table_base())
    label_id = table.register("/a", _series_of("/a"))
    assert label_id is not None
    for number in range(4 * TABLE_SLOTS):
        table.alias(f"alias {number}", label_id)
    assert table.ids["alias 0"] == label_id
    assert len(table.ids) <= 2 * TABLE_SLOTS


def test_its_ids_are_none_that_a_segment_or_a_mark_can_have() -> None:
    last_of_a_segment = fmt.MAX_ID_BASE + fmt.LABEL_SLOTS + 100
    for _ in range(1000):
        assert last_of_a_segment < random_table_base() < 2**32 - TABLE_SLOTS


def test_what_is_registered_is_in_the_file_at_once(writer: Writer, directory: Path) -> None:
    labels = _filled(writer, MAX_LABELS)
    assert len(labels.series) == MAX_LABELS
    assert read_table(directory) == labels


def test_its_file_has_its_full_size_and_is_private(writer: Writer, directory: Path) -> None:
    writer.make_table()
    status = (directory / TABLE_NAME).stat()
    assert status.st_size == TABLE_BYTES
    assert status.st_blocks * 512 >= TABLE_BYTES  # so no store meets a full disk
    assert status.st_mode & 0o777 == 0o600


def test_a_damaged_entry_costs_its_label_alone(writer: Writer, directory: Path) -> None:
    labels = _filled(writer)
    data = bytearray((directory / TABLE_NAME).read_bytes())
    data[_ENTRIES_AT + 7 * fmt.LABEL_SLOT_BYTES + 14] ^= 1
    (directory / TABLE_NAME).write_bytes(data)
    whole = dict(labels.series)
    del whole[labels.first_id + 7]
    assert read_table(directory) == (labels.first_id, whole)


def test_a_damaged_header_costs_nothing(writer: Writer, directory: Path) -> None:
    labels = _filled(writer)
    data = bytearray((directory / TABLE_NAME).read_bytes())
    data[:4096] = os.urandom(4096)
    (directory / TABLE_NAME).write_bytes(data)
    assert read_table(directory) == labels


def test_no_damage_raises_or_makes_a_false_label(writer: Writer, directory: Path) -> None:
    """The seed is fixed, so a failure can be repeated."""
    labels = _filled(writer)
    good = (directory / TABLE_NAME).read_bytes()[: _ENTRIES_AT + 110 * fmt.LABEL_SLOT_BYTES]
    dice = random.Random(31)
    for _ in range(500):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 20)):
            at = dice.choice((dice.randrange(64), dice.randrange(_ENTRIES_AT, len(good))))
            match dice.randrange(4):
                case 0:
                    data[at : at + 1] = bytes([dice.randrange(256)])
                case 1:
                    data[at : at + 8] = dice.randbytes(8)
                case 2:
                    data[at : at + 256] = data[-256 - at % 999 :][:256]
                case _ if dice.random() < 0.1:
                    del data[at:]
        (directory / TABLE_NAME).write_bytes(data)
        found = read_table(directory, yield_gil=lambda: None).series
        assert found.items() <= labels.series.items()


def test_a_cut_one_gives_the_labels_that_are_left(writer: Writer, directory: Path) -> None:
    labels = _filled(writer)
    os.truncate(directory / TABLE_NAME, _ENTRIES_AT + 10 * fmt.LABEL_SLOT_BYTES + 5)
    assert list(read_table(directory).series) == list(labels.series)[:10]


def test_that_of_another_writer_names_nothing(
    writer: Writer, directory: Path, tmp_path: Path
) -> None:
    _filled(writer)
    other = tmp_path / "0123456789abcdef"
    other.mkdir()
    (other / TABLE_NAME).write_bytes((directory / TABLE_NAME).read_bytes())
    assert read_table(other) == NO_LABELS


@pytest.mark.parametrize("data", [b"", b"x", bytes(TABLE_BYTES), os.urandom(TABLE_BYTES)])
def test_what_is_no_table_names_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / TABLE_NAME).write_bytes(data)
    assert read_table(tmp_path) == NO_LABELS


def test_an_entry_whose_id_is_none_of_a_table_names_nothing(tmp_path: Path) -> None:
    for label_id in (1, 2**31 - 1, 2**32 - 1):
        entry = fmt.pack_label(label_id, _series_of("/a"))
        at = _ENTRIES_AT + 9 * fmt.LABEL_SLOT_BYTES
        (tmp_path / TABLE_NAME).write_bytes(bytes(at) + entry.ljust(fmt.LABEL_SLOT_BYTES, b"\0"))
        assert read_table(tmp_path) == NO_LABELS


def test_no_table_is_read_through_a_link_or_waited_for(
    writer: Writer, directory: Path, tmp_path: Path
) -> None:
    _filled(writer)
    for path in (tmp_path / directory.name, tmp_path / "pipe", tmp_path / "nothing"):
        path.mkdir()
    (tmp_path / directory.name / TABLE_NAME).symlink_to(directory / TABLE_NAME)
    os.mkfifo(tmp_path / "pipe" / TABLE_NAME)
    assert read_table(tmp_path / directory.name) == NO_LABELS
    assert read_table(tmp_path / "pipe") == NO_LABELS
    assert read_table(tmp_path / "nothing") == NO_LABELS
