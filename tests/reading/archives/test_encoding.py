"""What is written as Parquet is read again as it was, sorted, small, and by other programs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.rows import Process, Rows
from fakes import EPOCH_NS

_LABELS = ["/b [GET]", "/a [GET]", 'é, "q"', ""]
_PROCESSES = [Process(7, "a" * 16), Process(8, "b" * 16)]
_ODD = [0.0, -0.0, 1e-9, 0.237000123, -2.5, 0.1 + 1e-17, 1e300, 123456789012.0]
_ODD += [float("nan"), float("inf"), 9007199.254740991, 9007199.254740993]


def _rows(number: int, seed: int = 1) -> Rows:
    chance = np.random.default_rng(seed)
    values = chance.integers(0, 10**9, number) / 1e9
    values[: len(_ODD)] = _ODD[:number]
    return Rows(
        EPOCH_NS + chance.integers(0, 3600 * 10**9, number),
        values,
        chance.integers(0, len(_LABELS), number).astype(np.int8),
        _LABELS,
        chance.integers(0, 2, number).astype(np.int8),
        _PROCESSES,
    )


def _write(path: Path, rows: Rows, *, as_doubles: bool = False, for_archive: bool = False) -> None:
    table = encoding.table(
        rows, as_doubles=as_doubles, for_archive=for_archive, constants={"host": "h1"}
    )
    with encoding.open_writer(path, table.schema, {"key": "text"}) as writer:
        encoding.write(writer, table)


@pytest.mark.parametrize("form", ["for_archive", "as_doubles", None])
def test_each_value_is_read_again_to_the_bit(tmp_path: Path, form: str | None) -> None:
    rows = encoding.in_order(_rows(1000))
    _write(tmp_path / "x.parquet", rows, **({} if form is None else {form: True}))
    found = pq.read_table(tmp_path / "x.parquet")
    assert encoding.doubles(found).tobytes() == rows.measurements.tobytes()
    assert found["at_ns"].to_numpy().tolist() == rows.timepoints_ns.tolist()
    assert found["label"].to_pylist() == [_LABELS[code] for code in rows.label_codes]
    processes = [_PROCESSES[code] for code in rows.process_codes]
    assert found["pid"].to_pylist() == [process.pid for process in processes]
    assert found["writer"].to_pylist() == [process.writer for process in processes]
    assert set(found["host"].to_pylist()) == {"h1"}
    assert pq.read_metadata(tmp_path / "x.parquet").metadata[b"key"] == b"text"
    assert ("value_ns" in found.column_names) == (form != "as_doubles")


def test_rows_are_sorted_by_label_and_time() -> None:
    rows = _rows(1000)
    found = encoding.in_order(rows)
    keys = [
        (_LABELS[code], at)
        for code, at in zip(found.label_codes.tolist(), found.timepoints_ns.tolist(), strict=True)
    ]
    assert keys == sorted(keys)
    assert sorted(found.measurements.tobytes()) == sorted(rows.measurements.tobytes())
    assert encoding.in_order(found) is found
    assert len(encoding.in_order(rows[:0])) == 0


def test_requests_are_next_to_their_first_bytes_and_failures() -> None:
    labels = ["/b 5xx", "/a b [GET]", "/b ttfb", "/b", "/a b [GET] ttfb", "/c ttfb"]
    codes = np.arange(len(labels), dtype=np.int8)
    rows = replace(_rows(len(labels)), label_codes=codes, labels=labels)
    ranks = encoding.request_ranks(rows).tolist()
    assert ranks == [1, 0, 1, 1, 0, 2]
    assert encoding.request_ranks(rows[:0]).tolist() == []


def _sizes(directory: Path) -> tuple[float, float]:
    """Return the bytes of a row in an archive, and otherwise."""
    chance, number = np.random.default_rng(2), encoding.GROUP_ROWS
    durations_ns = chance.lognormal(16, 1, number)
    random = replace(
        _rows(number),
        timepoints_ns=EPOCH_NS + chance.integers(0, 100 * 10**9, number),
        measurements=durations_ns.astype(np.int64) / 1e9,
    )
    rows = encoding.in_order(random)
    _write(directory / "archive.parquet", rows, for_archive=True)
    _write(directory / "other.parquet", rows)
    archive, other = (
        (directory / name).stat().st_size / number for name in ("archive.parquet", "other.parquet")
    )
    return archive, other


def test_a_row_of_a_recording_takes_less_than_seven_and_a_half_bytes(tmp_path: Path) -> None:
    archive, other = _sizes(tmp_path)
    assert archive < other - 0.1 < 7.4


def test_groups_of_rows_have_the_limits_of_their_labels_and_times(tmp_path: Path) -> None:
    rows = encoding.in_order(_rows(2 * encoding.GROUP_ROWS))
    _write(tmp_path / "x.parquet", rows)
    read = pq.read_metadata(tmp_path / "x.parquet")
    assert read.num_row_groups == 2
    columns = {read.row_group(1).column(n).path_in_schema: n for n in range(read.num_columns)}
    label = read.row_group(1).column(columns["label"]).statistics
    assert (label.min, label.max) == ("/a [GET]", 'é, "q"')
    assert read.row_group(0).column(columns["at_ns"]).statistics.min >= EPOCH_NS


@pytest.mark.parametrize("for_archive", [False, True])
def test_duckdb_reads_the_same_values(tmp_path: Path, *, for_archive: bool) -> None:
    rows = encoding.in_order(_rows(1000))
    path = tmp_path / "x.parquet"
    _write(path, rows, for_archive=for_archive)
    query = f"select coalesce(value, value_ns / 1e9), label, pid, writer from '{path}'"
    with duckdb.connect() as connection:
        found = connection.sql(query).fetchnumpy()
    first = next(iter(found.values()))
    np.testing.assert_array_equal(np.asarray(first, np.float64), rows.measurements)


def test_without_pyarrow_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"aqltelemetry\[pyarrow\]"):
        encoding.table(_rows(1))
