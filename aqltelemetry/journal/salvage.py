"""Reads every intact record of a segment whose header is damaged.

All that the header holds is also elsewhere: the id base is in each label's entry and in each
anchor, writer and number are in the segment's name, and the PID is in the headers of the
writer's other segments.
"""

from __future__ import annotations

from collections import Counter

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.labels import NO_LABELS, TableLabels
from aqltelemetry.journal.reader import Context, Reading, read_segment
from aqltelemetry.observation import Batch, SegmentAccount, SegmentId

UNKNOWN_PID = 0
"""The PID of a damaged segment that is the only one of its writer."""
_MAX_FILE_BYTES = 16 << 20


def read_recovered(
    data: bytes,
    segment: SegmentId,
    *,
    pid: int,
    at_ns: int,
    labels: TableLabels = NO_LABELS,
) -> Reading:
    """Read a dead writer's segment, intact or damaged; never raises.

    `pid` and `at_ns` (nanoseconds since the epoch) are used if the header is damaged; `labels`
    are those of the writer's table.
    """
    try:
        reading = read_segment(data, recovered=True, context=Context(labels=labels))
    except SegmentError:
        pass
    else:
        if reading.batch.segment == segment:
            return reading
        # It is a copy of another segment, whose rows would appear twice.
        data = b""
    return _salvage(data, segment, pid, at_ns, labels)


def as_last(reading: Reading) -> Reading:
    """Return the reading of a segment that was its writer's last."""
    account = reading.batch.account
    if account is None:
        return reading
    batch = reading.batch._replace(account=account._replace(is_last=True))
    return reading._replace(batch=batch)


def _salvage(data: bytes, segment: SegmentId, pid: int, at_ns: int, labels: TableLabels) -> Reading:
    id_base = _id_base(data)
    # Even if no label of its own is intact, the writer's table may name its records.
    if id_base is not None or (labels.series and len(data) > fmt.RECORDS_AT):
        header = fmt.Header(
            segment.writer, segment.sequence, pid, id_base or 0, _MAX_FILE_BYTES, at_ns, ""
        )
        reading = read_segment(data, recovered=True, context=Context(header, labels))
        if id_base is not None or reading.records:
            return reading._replace(is_whole=False)
    account = SegmentAccount(accepted=0, is_damaged=True, at_ns=at_ns)
    batch = Batch(segment, pid, _MAX_FILE_BYTES, (), recovered=True, account=account)
    return Reading(batch, 0, 0, is_whole=False)


def _id_base(data: bytes) -> int | None:
    """Return the id base in most label entries and anchors; None if there is none."""
    if len(data) <= fmt.RECORDS_AT:
        return None
    votes: Counter[int] = Counter()
    for slot in range(fmt.LABEL_SLOTS):
        at = fmt.LABELS_AT + slot * fmt.LABEL_SLOT_BYTES
        entry = fmt.unpack_label(data[at : at + fmt.LABEL_SLOT_BYTES])
        if entry is not None and entry[0] > slot + 1:
            votes[entry[0] - 1 - slot] += 1
    for at in range(fmt.ANCHORS_AT, fmt.COUNTERS_AT - fmt.RECORD_BYTES + 1, fmt.RECORD_BYTES):
        record = data[at : at + fmt.RECORD_BYTES]
        label_id = fmt.unpack_duration(record)[2]
        if 0 < label_id <= fmt.MAX_ID_BASE and fmt.is_intact(record, at):
            votes[label_id] += 1
    return votes.most_common(1)[0][0] if votes else None
