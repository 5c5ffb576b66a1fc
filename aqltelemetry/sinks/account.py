"""The account of what a generation of files holds, as rows of a file of its own.

It stands beside the files, under the same segments in its name, and lets their
rows be counted against what was recorded: see `verification`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aqltelemetry.observation import Dropped, SegmentAccount
from aqltelemetry.sinks.csv_rows import Block

ACCEPTED = "accepted"
"""Label: observations that went into the segments in the file's name."""
BEFORE = "accepted before"
"""Label: those that went into the earlier segments of the same writer."""
ROWS = "rows "
"""Label, before a file prefix: the rows of that prefix."""
FILES = "files "
"""Label, before a file prefix: the number of files that they were written into."""
TORN = "dropped torn"
"""Label: observations in these segments of which no whole record came to be."""
DROPPED = "dropped "
"""Label, before a reason: the total of the recording so far, at the time of the last drop."""
END = "end"
"""Label: 1 where the recording was stopped after these segments, 0 where it was cut off."""
DAMAGED = "damaged segments"
"""Label: segments of which there may have been more than could be read."""
CHILD = "child"
"""Label: names the forked child whose recording this is."""
REMOVED = "files removed"
"""Label: published files that this process has removed by the rules of retention."""
_NS_PER_US = 1_000


class _Row(NamedTuple):
    at_ns: int
    value: int
    label: str


class Account:
    """Adds up what the segments of a generation hold and tell."""

    def __init__(self) -> None:
        self._accepted = 0
        self._before: int | None = None
        self._rows: Counter[str] = Counter()
        self._dropped: dict[str, Dropped] = {}
        self._end: int | None = None
        self._child: int | None = None
        self._span_ns: list[int] = []
        self._segments = 0
        self._damaged = 0

    def add(self, told: SegmentAccount | None, texts: Mapping[str, Sequence[Block]]) -> None:
        """Add what a segment tells, and its rows; None tells that it was never recorded to."""
        if told is None:
            return
        if not self._segments:
            self._before = told.before
        self._segments += 1
        self._accepted += told.accepted
        self._damaged += told.is_damaged
        for prefix, blocks in texts.items():
            self._rows[prefix] += sum(block.rows for block in blocks)
            times_ns = [*self._span_ns, *(block.from_ns for block in blocks)]
            times_ns += (block.to_ns for block in blocks)
            self._span_ns = [min(times_ns), max(times_ns)]
        self._dropped |= {dropped.reason: dropped for dropped in told.dropped}
        if told.is_last:
            self._end = int(told.in_order)
        self._child = told.child
        if not self._span_ns:
            self._span_ns = [told.at_ns]

    def block(self, pid: int, files: Counter[str], removed: int) -> Block | None:
        """Return the account as text; None where there is nothing to account for.

        `files` counts the files that were written, by prefix.
        """
        if not self._segments:
            return None
        rows = self._told(files, removed)
        text = "".join(f"{row.at_ns},{row.value},{row.label},{pid}\n" for row in rows)
        times_ns = [row.at_ns for row in rows] + self._span_ns
        # Retention goes by the end in the name: the account outlives what it tells of.
        return Block(text.encode(), len(rows), min(times_ns), max(times_ns) + _NS_PER_US)

    def _told(self, files: Counter[str], removed: int) -> list[_Row]:
        numbers = {ACCEPTED: self._accepted}
        if self._before is not None:
            numbers[BEFORE] = self._before
        numbers |= {ROWS + prefix: rows for prefix, rows in self._rows.items()}
        numbers |= {FILES + prefix: count for prefix, count in files.items()}
        if torn := self._accepted - self._rows.total():
            numbers[TORN] = torn
        if self._end is not None:
            numbers[END] = self._end
        if self._child is not None:
            numbers[CHILD] = self._child
        if self._damaged:
            numbers[DAMAGED] = self._damaged
        if removed:
            numbers[REMOVED] = removed
        at_ns = max(self._span_ns)
        return [
            *(_Row(at_ns, value, label) for label, value in numbers.items()),
            *(_Row(at, total, DROPPED + reason) for reason, total, at in self._dropped.values()),
        ]
