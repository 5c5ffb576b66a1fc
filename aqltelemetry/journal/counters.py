"""What a segment says of the recording it belongs to, beside its records.

A mark is a number that only grows, such as how many observations were dropped for
a reason. Each has a few slots of the size of a record, at the end of the anchors'
page, and a value is stored into one of them by turns: a store that is cut off by
a kill, or overtaken by another thread's, leaves the values before it to be read.
The largest whole one counts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from mmap import mmap
from typing import NamedTuple
from zlib import crc32

from aqltelemetry.journal import format as fmt

_SLOTS = 4
_MARK = struct.Struct("<qqI")
_STORE = struct.Struct("<qqII")
_FIRST_ID = fmt.LABEL_SLOTS + 1


class Mark(IntEnum):
    """What a segment may be marked with; the values are the format's, and stay."""

    NO_SEGMENT = 0
    """Observations dropped since the recording began, by reason, as the next three."""
    INVALID = 1
    ERROR = 2
    UNREADABLE = 3
    BEFORE = 4
    """Observations accepted into the writer's earlier segments."""
    END = 5
    """1: the recording ended in order, in this segment."""
    CHILD = 6
    """Names the forked child whose recording this is, in segments of many writers."""


NO_SEGMENT = "no segment"
"""Drop reason: the journal is at its limit, or the next segment was not made in time."""
INVALID = "invalid"
"""Drop reason: a measurement that is no number, or a prefix that can't name a file."""
ERROR = "error"
"""Drop reason: a fault of ours."""
UNREADABLE = "unreadable"
"""Drop reason: the segment's file is gone, or can't be read."""
TORN = "torn"
"""Drop reason: a slot was taken, and no record came to be in it; each segment tells by itself."""
DROP_MARKS = {
    NO_SEGMENT: Mark.NO_SEGMENT,
    INVALID: Mark.INVALID,
    ERROR: Mark.ERROR,
    UNREADABLE: Mark.UNREADABLE,
}
"""How the totals of a recording are marked in its segments."""


class Marked(NamedTuple):
    """A mark's value, and the monotonic time when it was last raised."""

    value: int
    at_ns: int


def store_mark(mapped: mmap, id_base: int, mark: Mark, value: int, at_ns: int) -> None:
    """Raise a mark of a segment; may be called on any thread, and amid itself."""
    at = _position(mark) + value % _SLOTS * fmt.RECORD_BYTES
    if _MARK.unpack_from(mapped, at)[0] > value:  # overtaken by a thread that was faster
        return
    mark_id = id_base + _FIRST_ID + mark
    crc = crc32(_MARK.pack(value, at_ns, mark_id), at)
    _STORE.pack_into(mapped, at, value, at_ns, mark_id, crc)


def read_marks(data: bytes | memoryview, id_base: int) -> Mapping[Mark, Marked]:
    """Return the marks of a segment that were stored whole."""
    found: dict[Mark, Marked] = {}
    for mark in Mark:
        first = _position(mark)
        for at in range(first, first + _SLOTS * fmt.RECORD_BYTES, fmt.RECORD_BYTES):
            record = bytes(data[at : at + fmt.RECORD_BYTES])
            value, at_ns, mark_id = _MARK.unpack_from(record)
            if mark_id == id_base + _FIRST_ID + mark and fmt.is_intact(record, at):
                found[mark] = max(found.get(mark, Marked(0, 0)), Marked(value, at_ns))
    return found


def _position(mark: Mark) -> int:
    return fmt.MARKS_AT + mark * _SLOTS * fmt.RECORD_BYTES
