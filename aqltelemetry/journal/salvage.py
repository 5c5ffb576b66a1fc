"""What can be had of a segment whose header is damaged: every record that is whole.

The header only says things once for all that are also elsewhere: the id base is in
each label's entry, writer and number are in the segment's name, and the process is
in the headers of the writer's other segments.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.reader import Reading, read_segment
from aqltelemetry.observation import Batch, SegmentAccount, SegmentId

UNKNOWN_PID = 0
"""The process of a segment that is damaged, and the only one of its writer."""
_MAX_FILE_BYTES = 16 << 20


def read_recovered(
    data: bytes, segment: SegmentId, *, pid: int, at_ns: int, is_last: bool = False
) -> Reading:
    """Read a dead writer's segment, whatever befell it; never raises.

    `pid` and `at_ns` are the process and a time of it, for what has lost its header;
    `is_last` says that it was its writer's last.
    """
    reading = _read(data, segment, pid, at_ns)
    account = reading.batch.account
    if account is None or not is_last:
        return reading
    batch = replace(reading.batch, account=account._replace(is_last=True))
    return reading._replace(batch=batch)


def _read(data: bytes, segment: SegmentId, pid: int, at_ns: int) -> Reading:
    try:
        reading = read_segment(data, recovered=True)
    except SegmentError:
        pass
    else:
        if reading.batch.segment == segment:
            return reading
        # A copy of another segment would be that one's rows again.
        data = b""
    return _salvage(data, segment, pid, at_ns)


def _salvage(data: bytes, segment: SegmentId, pid: int, at_ns: int) -> Reading:
    id_base = _id_base(data)
    if id_base is not None:
        header = fmt.Header(
            segment.writer, segment.sequence, pid, id_base, _MAX_FILE_BYTES, at_ns, ""
        )
        reading = read_segment(data, recovered=True, header=header)
        return reading._replace(is_whole=False)
    account = SegmentAccount(accepted=0, is_damaged=True, at_ns=at_ns)
    batch = Batch(segment, pid, _MAX_FILE_BYTES, (), recovered=True, account=account)
    return Reading(batch, 0, 0, is_whole=False)


def _id_base(data: bytes) -> int | None:
    """Return the id base that most of the labels' entries tell; None where none does."""
    if len(data) <= fmt.RECORDS_AT:
        return None
    told: Counter[int] = Counter()
    for slot in range(fmt.LABEL_SLOTS):
        at = fmt.LABELS_AT + slot * fmt.LABEL_SLOT_BYTES
        entry = fmt.unpack_label(data[at : at + fmt.LABEL_SLOT_BYTES])
        if entry is not None and entry[0] > slot + 1:
            told[entry[0] - 1 - slot] += 1
    return told.most_common(1)[0][0] if told else None
