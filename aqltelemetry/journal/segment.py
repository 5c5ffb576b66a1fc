"""A segment while it is written: slots, taken atomically, in a mapped file."""

from __future__ import annotations

import mmap
import operator
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import LabelLimit, LabelTable, SeriesKey
from aqltelemetry.observation import (
    BUILT_IN,
    DURATION,
    Kind,
    SegmentId,
    Series,
    check_prefix,
    clean_label,
)
from aqltelemetry.system.clock import Anchor, yield_gil
from aqltelemetry.system.extensions import choose

if TYPE_CHECKING:
    from aqltelemetry.journal import records
else:
    records = choose("aqltelemetry.journal.records")

# Exhausting the slots in pieces keeps each hold of the interpreter lock short.
_PIECE = 2048
_MAX_KEY_CHARS = 200
MANY_LABELS = fmt.LABEL_SLOTS // 4
"""A process with more labels than this gets a label table."""


class AtomicCounter:
    """A count that threads, signal handlers and collector callbacks share without a lock.

    Stepping a range iterator is one C call, so no step is ever lost; an addition
    to an attribute would lose some.
    """

    __slots__ = ("_steps", "step")

    def __init__(self) -> None:
        self._steps = iter(range(sys.maxsize))
        self.step: Callable[[], int] = self._steps.__next__
        """Add one; return how many there were before."""

    @property
    def value(self) -> int:
        """How often `step` was called."""
        return sys.maxsize - operator.length_hint(self._steps)


class Segment:
    """A mapped segment that takes records from any thread, without locks.

    `slots` yields the positions of free record slots; the caller that gets one owns it.
    `ids` names the series known to this segment, or, once it shares its writer's
    `table`, to all of them. `successor` is the segment that recording goes on in once
    this one is full; set before it is needed.
    """

    __slots__ = (
        "_anchor_slots",
        "_label_slots",
        "_limit",
        "_own_ids",
        "_unused",
        "_withdrawn",
        "capacity",
        "header",
        "ids",
        "map",
        "path",
        "size_bytes",
        "slots",
        "successor",
        "table",
    )

    def __init__(
        self,
        mapped: mmap.mmap,
        header: fmt.Header,
        path: Path | None,
        limit: LabelLimit | None = None,
    ) -> None:
        self.map = mapped
        self.header = header
        self.path = path
        self.size_bytes = len(mapped)
        self.ids = self._own_ids = dict[SeriesKey, int]()
        self.table: LabelTable | None = None
        self.successor: Segment | None = None
        self._unused: int | None = None
        self._withdrawn = array("I")
        self._limit = limit or LabelLimit()
        end = self.size_bytes - fmt.RECORD_BYTES + 1
        positions = range(fmt.RECORDS_AT, end, fmt.RECORD_BYTES)
        self.capacity = len(positions)
        self.slots: Iterator[int] = records.free_slots(mapped, self.ids, positions)
        self._label_slots = iter(range(fmt.LABEL_SLOTS))
        last = fmt.COUNTERS_AT - fmt.RECORD_BYTES + 1
        self._anchor_slots = iter(range(fmt.ANCHORS_AT, last, fmt.RECORD_BYTES))

    @property
    def id(self) -> SegmentId:
        """The segment's name."""
        return SegmentId(self.header.writer, self.header.sequence)

    @property
    def taken(self) -> int:
        """How many records were accepted so far, exactly, from any thread."""
        while self._unused is None:
            withdrawn = len(self._withdrawn)
            left = operator.length_hint(self.slots)
            # Else `exhaust` withdrew slots between the two readings.
            if withdrawn == len(self._withdrawn):
                return self.capacity - left - withdrawn
        return self.capacity - self._unused

    def id_of(self, key: SeriesKey) -> int | None:
        """Return the id of a series; register a new one. None if there is no room for it.

        Raises PrefixError.
        """
        try:
            return self.ids[key]
        except (
            KeyError,
            TypeError,
        ):  # an object that can't be a key of a dictionary may be a label
            return self.register(key)

    @property
    def has_many_labels(self) -> bool:
        """Whether the segment has so many labels that its writer should make a label table."""
        free = operator.length_hint(self._label_slots)
        return self.table is None and free < fmt.LABEL_SLOTS - MANY_LABELS

    def holds_only(self, prefix: str) -> bool:
        """Return whether all series have this prefix; False if the label table is in use."""
        if self.table is not None:
            return False
        # Copied to a list, since other threads may register series during the loop.
        return all(isinstance(key, tuple) and key[0] == prefix for key in list(self._own_ids))

    def share(self, table: LabelTable) -> None:
        """Use the ids of the writer's label table for new labels; called once.

        May be called while the segment is recorded to.
        """
        self.table = table
        records.share(self.slots, table.ids)
        self.ids = table.ids

    def register(self, key: SeriesKey) -> int | None:
        """Return a new id for a series, from the table or this segment; None if both are full."""
        wanted = _series_of(key)
        series = self._limit.admit(wanted)
        known = _key_of(series)
        # The number of labels beyond the limit is unlimited, so they are not stored as keys.
        is_alias = key != known and series is wanted and _is_small(key)
        table = self.table
        label_id = None if table is None else table.register(known, series)
        if label_id is None:
            label_id = self._register(known, series)
            if label_id is not None and is_alias:
                self._own_ids[key] = label_id
        elif table is not None and is_alias:
            table.alias(key, label_id)
        return label_id

    def _register(self, known: SeriesKey, series: Series) -> int | None:
        # Not `self.ids`, which another thread may replace by the table's at any moment.
        label_id = self._own_ids.get(known)
        if label_id is None:
            slot = next(self._label_slots, None)
            if slot is None:
                return None
            label_id = self.header.id_base + 1 + slot
            at = fmt.LABELS_AT + slot * fmt.LABEL_SLOT_BYTES
            entry = fmt.pack_label(label_id, series)
            self.map[at : at + len(entry)] = entry
            self._own_ids[known] = label_id
        return label_id

    def stop_after(self, count: int) -> None:
        """Make the compiled hot path send one record the slow way after `count` records."""
        records.stop_after(self.slots, count)

    def append_anchor(self, anchor: Anchor) -> bool:
        """Store an anchor; False when there is no room for another one."""
        at = next(self._anchor_slots, None)
        if at is None:
            return False
        record = fmt.pack_anchor(self.header.id_base, *anchor, at)
        self.map[at : at + fmt.RECORD_BYTES] = record
        return True

    def exhaust(self) -> int | None:
        """Take every slot that is left, so that no record can be accepted any more.

        Return the position behind the last slot that was used, None if unknown.
        """
        withdrawn = self._withdrawn
        before = -1
        while len(withdrawn) != before:
            before = len(withdrawn)
            # One C call takes and counts the slots: each is in one of the two places at any time.
            withdrawn.extend(islice(self.slots, _PIECE))
            yield_gil()
        self._unused = len(withdrawn)
        self._withdrawn = array("I")
        # Slots are given out in order, so unless a record came in between two
        # pieces, the withdrawn ones are the rest of the segment.
        end = fmt.RECORDS_AT + self.taken * fmt.RECORD_BYTES
        return end if not withdrawn or withdrawn[0] == end else None


class BlankSegment(Segment):
    """A segment without slots: the first record already goes on in its successor."""

    __slots__ = ()

    def __init__(self, header: fmt.Header) -> None:
        super().__init__(mmap.mmap(-1, fmt.RECORDS_AT), header, None)

    def register(self, key: SeriesKey) -> int | None:
        """Return None: a blank segment has no labels."""
        del key
        return None


def random_id_base() -> int:
    """Draw the id base of a new segment."""
    return 1 + int.from_bytes(os.urandom(8)) % fmt.MAX_ID_BASE


def _series_of(key: SeriesKey) -> Series:
    if isinstance(key, Series):
        return key._replace(label=clean_label(key.label))
    if isinstance(key, tuple):
        prefix, label = key
        return Series(check_prefix(prefix), clean_label(label), Kind.FLOAT)
    return Series(DURATION, clean_label(key), Kind.NANOSECONDS)


def _key_of(series: Series) -> SeriesKey:
    if series.prefix in BUILT_IN:
        # The key differs from that of a value which the program records under such a prefix.
        return series
    return series.label if series.kind is Kind.NANOSECONDS else (series.prefix, series.label)


def _is_small(key: SeriesKey) -> bool:
    # A label of a megabyte that was recorded once must not stay in memory.
    label = key[1] if isinstance(key, tuple) else key
    # A program may give a label that is not a text, in spite of the type.
    return isinstance(label, str) and len(label) <= _MAX_KEY_CHARS  # type: ignore[redundant-expr]
