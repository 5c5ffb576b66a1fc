"""Counters of a recording, stored in each of its segments.

A counter is a number that only grows, such as how many observations were dropped for one
reason. It has four slots of the size of a record, on the anchors' page; a value is stored into
the slot `value % 4`. A store that is cut off by a kill, or overtaken by that of another thread,
leaves the values in the other slots intact. The largest intact value counts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.segment import Segment

_SLOTS = 4
_CHECKED = struct.Struct("<qqI")
_STORED = struct.Struct("<qqII")
_FIRST_ID = fmt.LABEL_SLOTS + 1


class CounterName(IntEnum):
    """Names a counter. The values are part of the segment's format and never change."""

    NO_SEGMENT = 0
    """Observations dropped since the recording started, by reason; so are the next three."""
    INVALID = 1
    ERROR = 2
    UNREADABLE = 3
    ACCEPTED_BEFORE = 4
    """Observations accepted into the writer's earlier segments."""
    ENDED = 5
    """1 where the recording was stopped in order, in this segment."""
    CHILD_NUMBER = 6
    """Identifies a forked child, whose segments have one writer each."""


NO_SEGMENT = "no segment"
"""Drop reason: the journal is at its limit, or the next segment was not made in time."""
INVALID = "invalid"
"""Drop reason: a measurement that is no number, or a prefix that can't name a file."""
ERROR = "error"
"""Drop reason: a fault in aqltelemetry."""
UNREADABLE = "unreadable"
"""Drop reason: the segment's file is gone, or can't be read."""
TORN = "torn"
"""Drop reason: a slot was taken but holds no intact record; counted by each reader."""
DROP_COUNTERS = {
    NO_SEGMENT: CounterName.NO_SEGMENT,
    INVALID: CounterName.INVALID,
    ERROR: CounterName.ERROR,
    UNREADABLE: CounterName.UNREADABLE,
}
"""The counter of each drop reason whose total is stored in segments."""


class CounterValue(NamedTuple):
    """A counter's value, and the monotonic time in nanoseconds when it was last raised."""

    value: int
    at_ns: int


def store_counter(segment: Segment, counter: CounterName, value: int, at_ns: int = 0) -> None:
    """Store a counter's value in a segment; safe on any thread, and when it interrupts itself.

    `at_ns` is the monotonic time of the last count.
    """
    at = _position(counter) + value % _SLOTS * fmt.RECORD_BYTES
    if _CHECKED.unpack_from(segment.map, at)[0] > value:  # a faster thread stored a later value
        return
    counter_id = segment.header.id_base + _FIRST_ID + counter
    crc = crc32(_CHECKED.pack(value, at_ns, counter_id), at)
    _STORED.pack_into(segment.map, at, value, at_ns, counter_id, crc)


def read_counters(data: bytes | memoryview, id_base: int) -> Mapping[CounterName, CounterValue]:
    """Return the counters of a segment that have an intact value."""
    found: dict[CounterName, CounterValue] = {}
    for counter in CounterName:
        first = _position(counter)
        for at in range(first, first + _SLOTS * fmt.RECORD_BYTES, fmt.RECORD_BYTES):
            record = bytes(data[at : at + fmt.RECORD_BYTES])
            value, at_ns, counter_id = _CHECKED.unpack_from(record)
            if counter_id == id_base + _FIRST_ID + counter and fmt.is_intact(record, at):
                largest = found.get(counter, CounterValue(0, 0))
                found[counter] = max(largest, CounterValue(value, at_ns))
    return found


def _position(counter: CounterName) -> int:
    return fmt.COUNTERS_AT + counter.value * _SLOTS * fmt.RECORD_BYTES
