"""Reads the bytes of a segment into a batch of observations, in short steps.

It works column by column and block by block: Python code on another thread blocks the event
loop for as long as it holds the interpreter lock.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.counters import DROP_COUNTERS, CounterName, CounterValue, read_counters
from aqltelemetry.journal.labels import NO_LABELS, TABLE_SLOTS, TableLabels
from aqltelemetry.observation import (
    Batch,
    Column,
    Dropped,
    Kind,
    SegmentAccount,
    SegmentId,
    Series,
)
from aqltelemetry.system.clock import Anchor, to_epoch, yield_gil
from aqltelemetry.system.extensions import choose

if TYPE_CHECKING:
    from aqltelemetry.journal import records
else:
    records = choose("aqltelemetry.journal.records")

_Integers: TypeAlias = MutableSequence[int]
_BLOCK_LABELS = 128
_WORDS = fmt.RECORD_BYTES // 8
_ID_WORD = 4


class Reading(NamedTuple):
    """The content of a segment.

    Attributes:
        batch: The observations.
        records: The number of intact records.
        damaged: The number of used slots without an intact record.
        is_whole: False if other parts than slots are damaged.
    """

    batch: Batch
    records: int
    damaged: int
    is_whole: bool = True


class Context(NamedTuple):
    """What is known about a segment from other files.

    Attributes:
        header: Replaces the segment's header if that is damaged.
        labels: The label table of its writer.
    """

    header: fmt.Header | None = None
    labels: TableLabels = NO_LABELS


_NOTHING = Context()


def read_segment(
    data: bytes | memoryview,
    *,
    recovered: bool,
    accepted: int | None = None,
    context: Context = _NOTHING,
    yield_gil: Callable[[], None] = yield_gil,
) -> Reading:
    """Read the bytes of a segment.

    Args:
        data: The bytes, from the start of the segment.
        recovered: Whether the writer is dead. Each record is then checked by its CRC; for a
            living writer, whose stores are complete, that is not needed.
        accepted: How many records the segment accepted, if known.
        context: What is known about the segment from other files.
        yield_gil: Called between blocks.

    Returns:
        The batch, and how many records are intact and damaged.

    Raises:
        SegmentError: If the header is damaged and `context` has none.
    """
    header, labels = context.header or fmt.unpack_header(data), context.labels
    anchors = _anchors(data, header)
    series = _labels(data, yield_gil)
    # Without an anchor nothing was recorded, or the anchors are damaged; then the creation time
    # is the best that is known.
    known_anchors = anchors or (Anchor(0, header.created_ns),)
    slots, ids = (fmt.RECORDS_AT, _end(data)), (header.id_base + 1, labels.first_id)
    shared = TABLE_SLOTS if labels.series else 0
    columns, damaged = records.read_records(
        data, slots, (*ids, shared), series, known_anchors, recovered, yield_gil
    )
    named = _named(columns, series, labels.series)
    whole = sum(len(timepoints) for _, timepoints, _ in named)
    damaged += sum(len(timepoints) for _, timepoints, _ in columns) - whole
    given = whole + damaged if accepted is None else accepted
    account = _account(read_counters(data, header.id_base), header, known_anchors, given)
    is_used = whole > 0 or (bool(anchors) and not _is_blank(account))
    batch = Batch(
        segment=SegmentId(header.writer, header.sequence),
        pid=header.pid,
        max_file_bytes=header.max_file_bytes,
        columns=_merged(named, yield_gil),
        recovered=recovered,
        account=account._replace(is_damaged=context.header is not None) if is_used else None,
    )
    return Reading(batch, whole, damaged)


def _named(
    columns: Sequence[tuple[int, _Integers, _Integers]],
    own: Mapping[int, Series],
    shared: Mapping[int, Series],
) -> Sequence[tuple[Series, _Integers, _Integers]]:
    """Return the columns whose ids are known, by their series."""
    return [
        (series, timepoints, values)
        for label_id, timepoints, values in columns
        if (series := own.get(label_id) or shared.get(label_id)) is not None
    ]


def _is_blank(account: SegmentAccount) -> bool:
    """Return whether nothing was recorded or dropped, in this segment or before."""
    nothing = not account.accepted and account.before == 0 and not account.dropped
    return nothing and not account.in_order


def _account(
    counters: Mapping[CounterName, CounterValue],
    header: fmt.Header,
    anchors: Sequence[Anchor],
    accepted: int,
) -> SegmentAccount:
    dropped = [
        Dropped(reason, counters[counter].value, to_epoch((counters[counter].at_ns,), anchors)[0])
        for reason, counter in DROP_COUNTERS.items()
        if counter in counters
    ]
    before = counters.get(CounterName.ACCEPTED_BEFORE)
    child = counters.get(CounterName.CHILD_NUMBER)
    return SegmentAccount(
        accepted=accepted,
        before=before.value if before else None,
        dropped=dropped,
        is_last=CounterName.ENDED in counters,
        in_order=CounterName.ENDED in counters,
        child=child.value if child else None,
        at_ns=header.created_ns,
    )


def _end(data: bytes | memoryview) -> int:
    """Return where the last whole slot ends."""
    return len(data) - (len(data) - fmt.RECORDS_AT) % fmt.RECORD_BYTES


def _anchors(data: bytes | memoryview, header: fmt.Header) -> Sequence[Anchor]:
    page = memoryview(data)[fmt.ANCHORS_AT : fmt.COUNTERS_AT]
    page = page[: len(page) // fmt.RECORD_BYTES * fmt.RECORD_BYTES]
    words, ids = page.cast("q"), page.cast("I")[_ID_WORD :: 2 * _WORDS].tolist()
    anchors = []
    for slot, label_id in enumerate(ids):
        if label_id == header.id_base:
            at = slot * fmt.RECORD_BYTES
            record = bytes(page[at : at + fmt.RECORD_BYTES])
            if fmt.is_intact(record, fmt.ANCHORS_AT + at):
                anchors.append(Anchor(words[slot * _WORDS], words[slot * _WORDS + 1]))
    return sorted(anchors)


def _labels(data: bytes | memoryview, yield_gil: Callable[[], None]) -> dict[int, Series]:
    table = memoryview(data)[fmt.LABELS_AT : fmt.RECORDS_AT]
    ids = table.cast("I")[fmt.LABEL_ID_WORD :: fmt.LABEL_SLOT_BYTES // 4].tolist()
    found: dict[int, Series] = {}
    for slot, label_id in enumerate(ids):
        if label_id:
            at = slot * fmt.LABEL_SLOT_BYTES
            entry = fmt.unpack_label(table[at : at + fmt.LABEL_SLOT_BYTES])
            if entry is not None:
                found[entry[0]] = entry[1]
            if slot % _BLOCK_LABELS == 0:
                yield_gil()
    return found


def _merged(
    columns: Sequence[tuple[Series, _Integers, _Integers]], yield_gil: Callable[[], None]
) -> Sequence[Column]:
    # Two threads that record a new label at the same time may each give it an id.
    merged: dict[Series, tuple[_Integers, _Integers]] = {}
    for name, timepoints, values in columns:
        known = merged.setdefault(name, (timepoints, values))
        if known[0] is not timepoints:
            known[0].extend(timepoints)
            known[1].extend(values)
    found: list[Column] = []
    for name, (timepoints, values) in merged.items():
        if len(found) % _BLOCK_LABELS == 0:
            yield_gil()
        numbers = _floats(values) if name.kind is Kind.FLOAT else values
        found.append(Column(name, timepoints, numbers))
    return found


def _floats(bits: Sequence[int]) -> Sequence[float]:
    floats = array("d")
    floats.frombytes(memoryview(array("q", bits)).cast("B"))
    return floats
