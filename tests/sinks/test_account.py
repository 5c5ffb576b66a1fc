from __future__ import annotations

from collections import Counter

import pytest

from aqltelemetry.observation import CSV_HEADER, Dropped, SegmentAccount
from aqltelemetry.sinks.account import Account, AccountBuilder, read_account, read_rows
from aqltelemetry.sinks.csv_rows import Block
from aqltelemetry.sinks.file_names import FileName

_NAME = FileName("account", 0, 1000, 7, "0123456789abcdef", 3, 4, 0)
_ROW = b"5,2,accepted,7\n"


def test_an_account_is_read_as_it_was_written() -> None:
    builder = AccountBuilder()
    drops = (Dropped("journal full", 9, 20), Dropped("overload", 1, 30))
    builder.add(SegmentAccount(5, before=10), {"duration": [Block(b"", 4, 5, 8)]})
    builder.add(
        SegmentAccount(2, before=15, dropped=drops, is_last=True, in_order=True, child=6),
        {"duration": [Block(b"", 1, 9, 9)], "runtime": [Block(b"", 1, 6, 6)]},
    )
    block = builder.block(7, Counter({"duration": 2, "runtime": 1}), removed=8)
    assert block is not None
    assert (block.rows, block.from_ns, block.to_ns) == (12, 5, 30 + 1000)
    assert read_account(_NAME, CSV_HEADER + bytes(block.text)) == Account(
        first=3,
        last=4,
        accepted=7,
        before=10,
        rows={"duration": 5, "runtime": 1},
        files={"duration": 2, "runtime": 1},
        torn=1,
        dropped=[*drops],
        end=1,
        child=6,
        removed=8,
    )


def test_nothing_is_written_for_segments_without_records() -> None:
    builder = AccountBuilder()
    builder.add(None, {})
    assert builder.block(7, Counter(), removed=0) is None


@pytest.mark.parametrize("line", [b"\n", b"1,2,rows\n", b"1,x,rows duration,7\n", b"\xff,1,a,7\n"])
def test_a_damaged_line_is_an_error_or_is_skipped(line: bytes) -> None:
    data = CSV_HEADER + line + _ROW
    with pytest.raises(ValueError, match=r".*"):
        read_account(_NAME, data)
    assert [*read_rows(data, skip_damaged=True)] == [(5, 2, "accepted")]
