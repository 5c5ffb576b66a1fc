from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.observation import Batch, Column, Kind, SegmentId, Series, clean_label
from aqltelemetry.sinks import csv_rows
from aqltelemetry.sinks.csv_rows import format_batch
from fakes import EPOCH_NS

_LABELS = st.text().map(clean_label)
_DURATIONS = st.lists(
    st.one_of(st.integers(0, 2 * 10**9), st.integers(-(2**62), 2**62)), min_size=1, max_size=40
)
_FLOATS = st.lists(st.floats(), min_size=1, max_size=40)


def _batch(*columns: Column, pid: int = 4711, max_file_bytes: int = 16 << 20) -> Batch:
    return Batch(SegmentId("0" * 16, 1), pid, max_file_bytes, columns)


def _column(label: str, values: list[int], prefix: str = "duration") -> Column:
    timepoints = [EPOCH_NS + number for number in range(len(values))]
    return Column(Series(prefix, label, Kind.NANOSECONDS), timepoints, values)


def _text(batch: Batch, prefix: str = "duration") -> str:
    blocks = format_batch(batch, yield_gil=lambda: None)[prefix]
    return b"".join(block.text for block in blocks).decode()


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (237_000_123, "0.237000123"),
        (999_999_999, "0.999999999"),
        (1_000_000_000, "1.000000000"),
        (86_400_000_000_001, "86400.000000001"),
        (-5, "-0.000000005"),
        (-1_500_000_000, "-1.500000000"),
    ],
)
def test_a_duration_is_written_exactly_to_the_nanosecond(duration_ns: int, text: str) -> None:
    row = _text(_batch(_column("/version [GET]", [duration_ns])))
    assert row == f"{EPOCH_NS},{text},/version [GET],4711\n"


@given(_LABELS, _DURATIONS)
def test_durations_are_read_back_exactly_by_any_csv_reader(label: str, values: list[int]) -> None:
    text = _text(_batch(_column(label, values)))
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert [Decimal(value) * 10**9 for _, value, _, _ in rows] == values
    assert {(name, pid) for _, _, name, pid in rows} == {(label, "4711")}
    assert [int(at) for at, *_ in rows] == [EPOCH_NS + number for number in range(len(values))]
    assert text.count("\n") == len(values)


@given(_LABELS, _FLOATS)
def test_values_are_read_back_to_the_bit(label: str, values: list[float]) -> None:
    column = Column(Series("custom", label, Kind.FLOAT), range(len(values)), values)
    rows = list(csv.reader(io.StringIO(_text(_batch(column), "custom"), newline=""), strict=True))
    assert [repr(float(value)) for _, value, _, _ in rows] == [repr(value) for value in values]


def test_rows_are_grouped_by_prefix_and_label() -> None:
    batch = _batch(_column("/b", [1]), _column("rss", [3], "runtime"), _column("/a", [1, 2]))
    texts = format_batch(batch, yield_gil=lambda: None)
    assert sorted(texts) == ["duration", "runtime"]
    labels = [line.split(",")[2] for line in _text(batch).splitlines()]
    assert labels == ["/a", "/a", "/b"]


def test_a_block_has_the_first_and_last_of_its_timepoints() -> None:
    column = Column(Series("duration", "/a", Kind.NANOSECONDS), [30, 10, 20], [1, 1, 1])
    (block,) = format_batch(_batch(column), yield_gil=lambda: None)["duration"]
    assert (block.from_ns, block.to_ns) == (10, 30)


@given(st.integers(4096, 10**6), _LABELS)
def test_no_block_is_larger_than_a_quarter_of_a_file(max_file_bytes: int, label: str) -> None:
    batch = _batch(_column(label, [2**62] * 1500), max_file_bytes=max_file_bytes)
    blocks = format_batch(batch, yield_gil=lambda: None)["duration"]
    assert all(len(block.text) <= max_file_bytes / 4 for block in blocks)


def test_the_pure_twin_lets_go_of_the_interpreter_between_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_rows, "_write_blocks", csv_rows._pure_blocks)
    rests = []
    blocks = format_batch(_batch(_column("/a", [1] * 5000)), yield_gil=lambda: rests.append(1))
    assert len(rests) > len(blocks["duration"]) >= 9


def test_a_long_column_is_written_in_pieces_that_leave_no_trace() -> None:
    rests = []
    values = list(range(40_000))
    blocks = format_batch(_batch(_column("/a", values)), yield_gil=lambda: rests.append(1))[
        "duration"
    ]
    # The compiled twin lets go of the interpreter while it formats, too.
    assert len(rests) >= 40_000 // (512 if csv_rows.compiled is None else 16_384)
    assert sum(block.rows for block in blocks) == 40_000
    lines = b"".join(block.text for block in blocks).decode().splitlines()
    assert [line.split(",")[1] for line in lines] == [f"0.{value:09d}" for value in values]


def test_the_interpreter_is_let_go_of_between_many_columns() -> None:
    rests = []
    columns = [_column(f"/{number}", [1]) for number in range(320)]
    format_batch(_batch(*columns), yield_gil=lambda: rests.append(1))
    assert len(rests) >= 10
