"""How the layout of an archive decides its size: orders, encodings, levels, pages, row groups.

The first line is the layout of archives. Each other one differs from it in what it names; "earlier
versions" is what archives had before. The rows are 1.6 million synthetic durations of 100 labels,
each of random times of its own (`reporting` writes them), and 1.9 million of requests, with their
first bytes and failures, which `sizes` measures. "us to write" and "us to read" are
microseconds of processor time per row of the latter: from a `pyarrow.Table` to a file in memory,
and back, with one thread.
"""

from __future__ import annotations

import inspect
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import reporting
from _machine import describe
from _recorded_minutes import write
from _table import show
from pyarrow import parquet

from aqltelemetry import TelemetryDB
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.archives.encoding import AT_NS, LABEL, PID, VALUE_NS, WRITER
from aqltelemetry.reading.archives.rows import FILE
from aqltelemetry.reading.rows import Rows

FILES = 160
WORKERS, MINUTES, REQUESTS_PER_S = 8, 10, 200
ROUNDS = 3
_DELTA, _SPLIT, _PLAIN = "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN"
_Order = Callable[[Rows], tuple[Any, ...]]


def by_request(rows: Rows) -> tuple[Any, ...]:
    return rows.process_codes, encoding.request_ranks(rows)


def by_label(rows: Rows) -> tuple[Any, ...]:
    return rows.process_codes, encoding.label_ranks(rows)


def by_label_and_time(rows: Rows) -> tuple[Any, ...]:
    return (encoding.label_ranks(rows),)


def by_writer(rows: Rows) -> tuple[Any, ...]:
    return (rows.process_codes,)


@dataclass(frozen=True)
class Layout:
    """How rows are written; the defaults are those of archives."""

    order: _Order = by_request
    kind: str = "double"
    encoded: str = _SPLIT
    level: int = 9
    page_rows: int = 1 << 17
    group_rows: int = encoding.GROUP_ROWS
    without: tuple[str, ...] = ()


LAYOUTS = {
    "request, writer, time; doubles, split; level 9; pages of 2^17 rows; groups of 2^18": Layout(),
    "earlier versions": Layout(by_label, "int64", _DELTA, 1, 20_000),
    "order: label, writer, time": Layout(by_label),
    "order: label, time": Layout(by_label_and_time),
    "order: writer, time": Layout(by_writer),
    "values: integers, BYTE_STREAM_SPLIT": Layout(kind="int64"),
    "values: integers, DELTA_BINARY_PACKED": Layout(kind="int64", encoded=_DELTA),
    "values: integers, PLAIN": Layout(kind="int64", encoded=_PLAIN),
    "zstd, level 1": Layout(level=1),
    "zstd, level 3": Layout(level=3),
    "zstd, level 15": Layout(level=15),
    "pages of 20,000 rows": Layout(page_rows=20_000),
    "row groups of 2^16 rows": Layout(group_rows=1 << 16),
    "row groups of 2^20 rows": Layout(group_rows=1 << 20),
    "without pid and writer": Layout(without=(PID, WRITER)),
}


def measure(rows: Rows, layout: Layout) -> tuple[float, float, float]:
    """Return the bytes of a row, and the microseconds that it takes to write and to read one."""
    files = rows.process_codes.astype(np.int32)  # as many as there are at a time
    order = encoding.sorted_by(rows.timepoints_ns, *layout.order(rows))
    table = encoding.table(rows[order], for_archive=True, integers={FILE: files[order]})
    column = table.schema.get_field_index(VALUE_NS)
    table = table.set_column(column, VALUE_NS, table[VALUE_NS].cast(layout.kind))
    table = table.drop_columns([*layout.without])
    times = []
    for _ in range(ROUNDS):
        file = io.BytesIO()
        begin_s = process_time()
        _write(file, table, layout)
        written_s = process_time()
        parquet.ParquetFile(file, read_dictionary=[LABEL]).read(use_threads=False)
        times.append((written_s - begin_s, process_time() - written_s))
    written_s, read_s = map(min, zip(*times, strict=True))
    count = len(rows)
    return len(file.getvalue()) / count, written_s / count * 1e6, read_s / count * 1e6


def _write(file: io.BytesIO, table: Any, layout: Layout) -> None:
    options: dict[str, Any] = {}
    if "max_rows_per_page" in inspect.signature(parquet.ParquetWriter).parameters:
        options["max_rows_per_page"] = layout.page_rows
    encodings = {AT_NS: _DELTA, VALUE_NS: layout.encoded}
    with parquet.ParquetWriter(
        file,
        table.schema,
        compression="zstd",
        compression_level=layout.level,
        use_dictionary=[name for name in table.column_names if name not in encodings],
        column_encoding=encodings,
        store_schema=False,
        **options,
    ) as writer:
        writer.write_table(table, row_group_size=layout.group_rows)


def main() -> None:
    """Print the table."""
    describe("pyarrow")
    with tempfile.TemporaryDirectory() as place:
        reporting.write(place, FILES)
        synthetic = TelemetryDB(place).rows("duration")
    with tempfile.TemporaryDirectory() as place:
        chance = np.random.default_rng(1)
        for worker in range(WORKERS):
            for number in range(MINUTES):
                write(Path(place), chance, worker, number, REQUESTS_PER_S)
        requests = TelemetryDB(place).rows("duration")
    rows: list[list[str | float | None]] = []
    for name, layout in LAYOUTS.items():
        size, *_ = measure(synthetic, layout)
        rows.append([name, size, *measure(requests, layout)])
    columns = {
        "": "",
        "bytes a row, synthetic": ".2f",
        "bytes a row, requests": ".2f",
        "us to write": ".3f",
        "us to read": ".3f",
    }
    show(f"Layouts of {len(synthetic):,} and {len(requests):,} durations", columns, rows)


if __name__ == "__main__":
    main()
