"""The records of a segment: free slots, memory pages in use, and reading them.

This is the twin in Python; the compiled one, `_records.pyx`, does the same.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from itertools import compress
from typing import TypeAlias

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import SeriesKey
from aqltelemetry.system.clock import Anchor, to_epoch

_Integers: TypeAlias = MutableSequence[int]
Found: TypeAlias = tuple[Sequence[tuple[int, _Integers, _Integers]], int]
"""The columns of a segment by label id, and how many slots are damaged."""

TOUCHED_BYTES = 128 << 10
"""How many bytes `touch` may be given at a time, so that it takes less than half a millisecond."""
_BLOCK_RECORDS = 512
_WORDS = fmt.RECORD_BYTES // 8
_ID_WORD = 4


def free_slots(mapped: mmap.mmap, ids: Mapping[SeriesKey, int], positions: range) -> Iterator[int]:
    """Return an iterator over the positions of free slots; one step of it takes one.

    The compiled hot path stores into `mapped`, and looks series up in `ids`.
    """
    del mapped, ids
    return iter(positions)


def share(slots: Iterator[int], ids: Mapping[SeriesKey, int]) -> None:
    """Make the compiled hot path use other ids from now on; may be called once."""
    del slots, ids  # read from the segment for each record


def stop_after(slots: Iterator[int], records: int) -> None:
    """Make the compiled hot path send one record the slow way after a number of records."""
    del slots, records


def touch(mapped: mmap.mmap, start: int, stop: int) -> None:
    """Store a zero into each page of `mapped` from `start` to before `stop`."""
    for at in range(start, stop, mmap.PAGESIZE):
        mapped[at] = 0


def read_records(  # noqa: PLR0913, PLR0917 - called once for a segment
    data: bytes | memoryview,
    positions: tuple[int, int],
    first_ids: tuple[int, int, int],
    ids: Iterable[int],
    anchors: Sequence[Anchor],
    check: bool,
    yield_gil: Callable[[], None],
) -> Found:
    """Return `(id, timepoints, values)` of each series in some slots, and how many are damaged.

    The slots are from `positions[0]` to before `positions[1]`. The series are in the order of
    their first records; values are integers, whatever they mean. `anchors` are in order.
    `first_ids` are the first id of the segment, the first one of the label table, and how many
    the table may have; `ids` are those that the segment has. The compiled twin needs both, and
    counts records of other ids as damaged; this one returns them as columns, which the caller
    counts. `check` compares each record with its CRC-32. `yield_gil` is called between pieces of
    work that hold the interpreter's lock.
    """
    del first_ids, ids
    columns: dict[int, tuple[list[int], list[int]]] = {}
    damaged, (begin, end) = 0, positions
    for start in range(begin, end, _BLOCK_RECORDS * fmt.RECORD_BYTES):
        stop = min(start + _BLOCK_RECORDS * fmt.RECORD_BYTES, end)
        label_ids, times, values, bad = _block(data, start, stop, check=check)
        damaged += bad
        rows = zip(label_ids, to_epoch(times, anchors), values, strict=True)
        for label_id, at_ns, value in rows:
            if label_id in columns:
                timepoints, kept = columns[label_id]
                timepoints.append(at_ns)
                kept.append(value)
            else:
                columns[label_id] = ([at_ns], [value])
        yield_gil()
    return [(label_id, *column) for label_id, column in columns.items()], damaged


def _block(
    data: bytes | memoryview, start: int, stop: int, *, check: bool
) -> tuple[Sequence[int], Sequence[int], Sequence[int], int]:
    """Return ids, times and values of the records in a run of slots, and the damaged."""
    block = bytes(data[start:stop])
    if block.count(0) == len(block):  # as most of a spare is
        return (), (), (), 0
    words = memoryview(block).cast("q")
    halves = memoryview(block).cast("I")
    ids = halves[_ID_WORD :: 2 * _WORDS].tolist()
    damaged = 0
    if check:
        for slot, position in enumerate(range(0, stop - start, fmt.RECORD_BYTES)):
            record = block[position : position + fmt.RECORD_BYTES]
            if not fmt.is_intact(record, start + position):
                damaged += any(record)
                ids[slot] = 0
    times, values = words[::_WORDS].tolist(), words[1::_WORDS].tolist()
    if 0 in ids:  # marks a free slot, or a damaged one
        times, values = list(compress(times, ids)), list(compress(values, ids))
        ids = list(filter(None, ids))
    return ids, times, values, damaged
