"""The journal segment's format, version 1; everything is little-endian.

A segment is a file of fixed parts at fixed positions:

| bytes | what |
|---|---|
| 0-511 | header: magic, writer, sequence, PID, id base, sizes, directory, CRC-32 |
| 512-3327 | anchors: records whose id is the id base and whose value is an offset in ns |
| 3328-4095 | counters, such as what was dropped, see `counters` |
| 4096-266239 | 1,024 label entries of 256 bytes; others may be in the table, see `labels` |
| 266240-end | records of 24 bytes |

A record is time (int64, monotonic ns), value (int64 ns or float64, as its label
entry says), label id (uint32), CRC-32 (uint32) of the 20 bytes before, seeded
with the record's position. A record is stored by one call; the CRC of a torn, foreign or
moved record is wrong. The id base is random, so the ids of a record from another segment
belong to no label.

No counter of records is stored: a reader scans every slot; a slot of zeros is free.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from mmap import mmap
from typing import NamedTuple
from zlib import crc32

from aqltelemetry.errors import SegmentError
from aqltelemetry.observation import Kind, Series

MAGIC = b"AQLSEG01"
SEGMENT_BYTES = 1 << 20
ANCHORS_AT = 512
COUNTERS_AT = 3328
LABELS_AT = 4096
LABEL_SLOT_BYTES = 256
LABEL_SLOTS = 1024
LABEL_ID_WORD = 1
RECORDS_AT = LABELS_AT + LABEL_SLOTS * LABEL_SLOT_BYTES
RECORD_BYTES = 24
CHECKED_BYTES = 20

_HEADER = struct.Struct("<8s8sQIIQqH")
_CRC = struct.Struct("<I")
_LABEL = struct.Struct("<IIBBH")
MAX_DIRECTORY_BYTES = ANCHORS_AT - _HEADER.size - _CRC.size
# Ids stay below 2**31 and are never 0, which means a free slot.
MAX_ID_BASE = 2**31 - LABEL_SLOTS - 1

_DURATION = struct.Struct("<qqI")


class Layout(NamedTuple):
    """Functions for records of one kind: `pack` for the CRC-32, `store` with it."""

    pack: Callable[[int, float, int], bytes]
    store: Callable[[mmap, int, int, float, int, int], None]


DURATION_LAYOUT = Layout(_DURATION.pack, struct.Struct("<qqII").pack_into)
VALUE_LAYOUT = Layout(struct.Struct("<qdI").pack, struct.Struct("<qdII").pack_into)


def unpack_duration(record: bytes) -> tuple[int, int, int]:
    """Return time, integer value and id of a record."""
    at_ns, value, label_id = _DURATION.unpack_from(record)
    return at_ns, value, label_id


class Header(NamedTuple):
    """The header of a segment.

    Attributes:
        writer: 16 hexadecimal digits.
        sequence: The number of the segment, from 1.
        pid: The process that records into it.
        id_base: A random number below the ids of its labels.
        max_file_bytes: The size at which files are rotated.
        created_ns: The wall clock at its creation, in nanoseconds since the epoch.
        directory: Where its observations are published; empty if the name is too long.
    """

    writer: str
    sequence: int
    pid: int
    id_base: int
    max_file_bytes: int
    created_ns: int
    directory: str

    def pack(self) -> bytes:
        """Return the header's bytes; raises SegmentError if the directory is too long."""
        directory = self.directory.encode(errors="surrogateescape")
        if len(directory) > MAX_DIRECTORY_BYTES:
            msg = f"directory of {len(directory)} bytes: at most {MAX_DIRECTORY_BYTES}"
            raise SegmentError(msg)
        body = (
            _HEADER.pack(
                MAGIC,
                bytes.fromhex(self.writer),
                self.sequence,
                self.pid,
                self.id_base,
                self.max_file_bytes,
                self.created_ns,
                len(directory),
            )
            + directory
        )
        return body + _CRC.pack(crc32(body))


def has_room_for(directory: str) -> bool:
    """Return whether a header can hold the name of a directory."""
    return len(directory.encode(errors="surrogateescape")) <= MAX_DIRECTORY_BYTES


def unpack_header(data: bytes | memoryview) -> Header:
    """Return the header; raises SegmentError if it is damaged."""
    if len(data) < RECORDS_AT:
        msg = f"{len(data)} bytes: a segment has at least {RECORDS_AT}"
        raise SegmentError(msg)
    fields = _HEADER.unpack_from(data)
    magic, writer, sequence, pid, id_base, max_file_bytes, created_ns, length = fields
    if magic != MAGIC:
        msg = f"magic {magic!r}: must be {MAGIC!r}"
        raise SegmentError(msg)
    end = _HEADER.size + length
    if end + _CRC.size > ANCHORS_AT or _CRC.unpack_from(data, end)[0] != crc32(data[:end]):
        msg = "damaged header: its CRC-32 does not match"
        raise SegmentError(msg)
    directory = bytes(data[_HEADER.size : end]).decode(errors="surrogateescape")
    return Header(writer.hex(), sequence, pid, id_base, max_file_bytes, created_ns, directory)


def pack_label(label_id: int, series: Series) -> bytes:
    """Return the entry that gives `label_id` its series."""
    prefix, text = series.prefix.encode(), series.label.encode()
    body = _LABEL.pack(0, label_id, series.kind, len(prefix), len(text))[4:] + prefix + text
    return _CRC.pack(crc32(body)) + body


def unpack_label(entry: bytes | memoryview) -> tuple[int, Series] | None:
    """Return the id and series of a label entry; None if it is free or damaged."""
    crc, label_id, kind, prefix_length, length = _LABEL.unpack_from(entry)
    end = _LABEL.size + prefix_length + length
    if not label_id or end > LABEL_SLOT_BYTES or crc != crc32(entry[4:end]):
        return None
    text = bytes(entry[_LABEL.size : end])
    try:
        series = Series(text[:prefix_length].decode(), text[prefix_length:].decode(), Kind(kind))
    except ValueError:
        return None
    return label_id, series


def pack_anchor(id_base: int, at_ns: int, offset_ns: int, position: int) -> bytes:
    """Return the anchor record for the slot at `position`."""
    body = _DURATION.pack(at_ns, offset_ns, id_base)
    return body + _CRC.pack(crc32(body, position))


def is_intact(record: bytes, position: int) -> bool:
    """Return whether the slot at `position` holds an intact record."""
    (crc,) = _CRC.unpack_from(record, CHECKED_BYTES)
    return bool(crc == crc32(record[:CHECKED_BYTES], position))
