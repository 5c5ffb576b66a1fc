"""Labels: the keys that name series, how many a process may have, and a writer's label table.

The label table holds the ids of a process's many labels, for all of its segments.

A segment has room for 1,024 labels of its own. If more were in use, each segment would end when
these are used up, and each label would be registered in each segment. So once a segment has many
labels, its writer makes a table next to its segments, and all of them use its ids.

| bytes | what |
|---|---|
| 0-4095 | header: magic, writer, id base, CRC-32 |
| 4096-end | 10,240 label entries of 256 bytes, as in a segment |

Its ids start at a random base above those that a label or a counter of a segment can have. An
entry is stored whole before the first record that uses it, and never changed.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from mmap import mmap
from pathlib import Path
from typing import NamedTuple, TypeAlias
from zlib import crc32

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.files import read_file
from aqltelemetry.observation import FAILED, Series
from aqltelemetry.system.clock import yield_gil

SeriesKey: TypeAlias = str | tuple[str, str] | Series
"""How a hot path names a series: a duration's label, or `(prefix, label)` for a value.

A sampler's series of the reserved prefix `runtime` is named by a `Series`.
"""
MAX_LABELS = 10_000
OTHER_LABELS = "other labels"
"""The label of observations whose own is beyond the limit."""
TABLE_NAME = "labels.tab"
_MAGIC = b"AQLLAB01"
_HEADER = struct.Struct("<8s8sI")
_CRC = struct.Struct("<I")
_ENTRIES_AT = 4096
# The labels that a process may have, and some for those that two threads register at
# once, and for `other labels` of each prefix.
TABLE_SLOTS = 10_240
TABLE_BYTES = _ENTRIES_AT + TABLE_SLOTS * fmt.LABEL_SLOT_BYTES
# The ids of a segment's counters follow those of its labels.
_MIN_ID_BASE = 2**31 + fmt.LABEL_SLOTS
_ID_BASES = range(_MIN_ID_BASE, 2**32 - TABLE_SLOTS)
# Several texts may be cleaned to the same label; the number of keys needs a limit too.
_MAX_KEYS = 2 * TABLE_SLOTS
_PIECE_LABELS = 64


class TableLabels(NamedTuple):
    """The series in a label table, by id. The ids are `first_id` and the ones that follow it."""

    first_id: int
    series: Mapping[int, Series]


NO_LABELS = TableLabels(0, {})
"""The labels of a writer without a table."""


class LabelTable:
    """Gives series ids that hold in all segments of a writer, from any thread, without locks.

    `mapped` is the table's file, None for a writer in memory, where the ids suffice.
    `ids` has the id of each known series; the hot path looks series up in it.
    """

    def __init__(self, mapped: mmap | None, id_base: int) -> None:
        self._map = mapped
        self._series: dict[int, Series] = {}
        self._slots = iter(range(TABLE_SLOTS))
        self.ids: dict[SeriesKey, int] = {}
        self.labels = TableLabels(id_base, self._series)

    def register(self, key: SeriesKey, series: Series) -> int | None:
        """Return the id of a series, registered if it is new; None if the table is full."""
        label_id = self.ids.get(key)
        if label_id is None:
            slot = next(self._slots, None)
            if slot is None:
                return None
            label_id = self.labels.first_id + slot
            if self._map is not None:
                at = _ENTRIES_AT + slot * fmt.LABEL_SLOT_BYTES
                entry = fmt.pack_label(label_id, series)
                self._map[at : at + len(entry)] = entry
            self._series[label_id] = series
            self.ids[key] = label_id
        return label_id

    def alias(self, key: SeriesKey, label_id: int) -> None:
        """Add another key for the same id, if there is room."""
        if len(self.ids) < _MAX_KEYS:
            self.ids[key] = label_id


def random_table_base() -> int:
    """Draw the id base of a new table."""
    return _ID_BASES[int.from_bytes(os.urandom(8), "little") % len(_ID_BASES)]


def pack_table_header(writer: str, id_base: int) -> bytes:
    """Return the header of a writer's table."""
    body = _HEADER.pack(_MAGIC, bytes.fromhex(writer), id_base)
    return body + _CRC.pack(crc32(body))


def read_table(
    directory: Path, yield_gil: Callable[[], None] = yield_gil, *, uid: int | None = None
) -> TableLabels:
    """Return the intact labels in a writer's table.

    Never raises. A record whose label is damaged can't be read. `yield_gil` is called between
    pieces of the work.
    """
    try:
        data = read_file(directory / TABLE_NAME, TABLE_BYTES, uid)
    except (OSError, SegmentError):
        return NO_LABELS
    entries = dict(_entries(data, yield_gil))
    id_base = _id_base(data, directory.name, entries)
    if id_base not in _ID_BASES:
        return NO_LABELS
    ids = range(id_base, id_base + TABLE_SLOTS)
    series = dict(entry for entry in entries.values() if entry[0] in ids)
    return TableLabels(id_base, series)


def _entries(
    data: bytes, yield_gil: Callable[[], None]
) -> Iterator[tuple[int, tuple[int, Series]]]:
    """Yield the intact entries, by slot."""
    last = len(data) - fmt.LABEL_SLOT_BYTES + 1
    for slot, at in enumerate(range(_ENTRIES_AT, last, fmt.LABEL_SLOT_BYTES)):
        entry = fmt.unpack_label(data[at : at + fmt.LABEL_SLOT_BYTES])
        if entry is not None:
            yield slot, entry
            if slot % _PIECE_LABELS == 0:
                yield_gil()


def _id_base(data: bytes, writer: str, entries: Mapping[int, tuple[int, Series]]) -> int:
    """Return the id base from the header, or, if that is damaged, from most of the entries."""
    head = data[: _HEADER.size]
    if len(data) >= _ENTRIES_AT and _CRC.unpack_from(data, _HEADER.size)[0] == crc32(head):
        magic, named, id_base = _HEADER.unpack(head)
        # The table of another writer has other ids, which no record here uses.
        return int(id_base) if (magic, named.hex()) == (_MAGIC, writer) else 0
    votes = Counter(entry[0] - slot for slot, entry in entries.items())
    return votes.most_common(1)[0][0] if votes else 0


class LabelLimit:
    """Limits the number of labels of a process; all further ones share one label.

    So labels with an ID in them cost a bounded amount of memory and journal, and their
    observations are still recorded and counted. Labels that end with ` failed` share one of
    their own, so that no failure is taken for one more duration. Threads that bring a new label
    at the same moment may exceed the limit by their number.
    """

    def __init__(self, max_labels: int = MAX_LABELS) -> None:
        self._max_labels = max_labels
        self._admitted: set[tuple[str, str]] = set()

    def admit(self, series: Series) -> Series:
        """Return the series that an observation of `series` is to be recorded under."""
        name = (series.prefix, series.label)
        if name not in self._admitted:
            if len(self._admitted) >= self._max_labels:
                is_failure = series.label.endswith(f" {FAILED}")
                label = f"{OTHER_LABELS} {FAILED}" if is_failure else OTHER_LABELS
                return series._replace(label=label)
            self._admitted.add(name)
        return series
