from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import format as fmt
from aqltelemetry.observation import Kind, Series, clean_label
from fakes import header


def _file(head: bytes) -> bytes:
    return head + bytes(fmt.RECORDS_AT - len(head))


def test_a_header_is_read_as_it_was_written() -> None:
    written = header(directory="/tmp/\udcff/ü")
    assert fmt.unpack_header(_file(written.pack())) == written


@given(st.integers(0, len(header().pack()) * 8 - 1))
def test_a_header_with_a_flipped_bit_is_refused(bit: int) -> None:
    data = bytearray(_file(header().pack()))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SegmentError):
        fmt.unpack_header(bytes(data))


def test_what_is_too_short_for_a_segment_is_refused_by_its_size() -> None:
    with pytest.raises(SegmentError, match="12 bytes"):
        fmt.unpack_header(b"AQLSEG01....")


def test_another_kind_of_file_is_refused_by_its_magic() -> None:
    with pytest.raises(SegmentError, match="magic"):
        fmt.unpack_header(bytes(fmt.RECORDS_AT))


def test_a_directory_too_long_for_the_header_is_refused() -> None:
    with pytest.raises(SegmentError, match="at most"):
        header(directory="/x" * 300).pack()


@given(st.text().map(clean_label), st.from_regex(r"[a-z_-]{1,40}", fullmatch=True))
def test_a_label_entry_is_read_as_it_was_written(label: str, prefix: str) -> None:
    series = Series(prefix, label, Kind.FLOAT)
    entry = fmt.pack_label(99, series).ljust(fmt.LABEL_SLOT_BYTES, b"\0")
    assert len(entry) == fmt.LABEL_SLOT_BYTES
    assert fmt.unpack_label(entry) == (99, series)


@given(st.integers(0, 30 * 8 - 1))
def test_a_damaged_label_entry_is_none(bit: int) -> None:
    entry = bytearray(fmt.pack_label(99, Series("duration", "/version [GET]", Kind.NANOSECONDS)))
    entry[bit // 8] ^= 1 << bit % 8
    assert fmt.unpack_label(bytes(entry).ljust(fmt.LABEL_SLOT_BYTES, b"\0")) is None


def test_a_free_label_slot_is_none() -> None:
    assert fmt.unpack_label(bytes(fmt.LABEL_SLOT_BYTES)) is None


@given(st.integers(0, fmt.RECORD_BYTES * 8 - 1))
def test_a_record_with_a_flipped_bit_is_not_whole(bit: int) -> None:
    record = bytearray(fmt.pack_anchor(5, 123, 456, position=512))
    assert fmt.is_intact(bytes(record), 512)
    record[bit // 8] ^= 1 << bit % 8
    assert not fmt.is_intact(bytes(record), 512)


@given(st.integers(1, fmt.RECORD_BYTES - 1))
def test_a_record_of_which_only_a_part_was_stored_is_not_whole(length: int) -> None:
    record = fmt.pack_anchor(2**31 - 1, 2**62 + 1, -1, position=512)
    assert not fmt.is_intact(record[:length].ljust(fmt.RECORD_BYTES, b"\0"), 512)


def test_a_record_elsewhere_than_where_it_was_stored_is_not_whole() -> None:
    assert not fmt.is_intact(fmt.pack_anchor(5, 123, 456, position=512), 536)
