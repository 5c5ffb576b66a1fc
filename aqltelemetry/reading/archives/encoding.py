"""How observations are written as Parquet: columns, order, encodings.

| column | type | |
|---|---|---|
| `at_ns` | int64 | nanoseconds since the epoch; DELTA_BINARY_PACKED |
| `value_ns` | int64, optional | the value in units of 10^-9, without decimals: nanoseconds |
| `value` | double, optional | the value, of a row without `value_ns` |
| `label` | text | a dictionary |
| `pid` | int64 | a dictionary |
| `writer` | text | a dictionary |

Each row has one of `value_ns` and `value`: `value_ns` if dividing it by 10^9 gives exactly
the same double. Integers take half of the space of doubles with nine decimals. With
`as_doubles`, there is no `value_ns`, and `value` is always given.

Rows are sorted by label and time, in row groups of 2^18 rows with statistics, so that a reader
skips what it does not want.

Archives have `value_ns` as a double without decimals, BYTE_STREAM_SPLIT: the bytes of each place of
a page are next to each other. A page has 2^17 rows, so that zstd compresses those of one place for
themselves. This takes less space than DELTA_BINARY_PACKED, and is read by more programs than
BYTE_STREAM_SPLIT of integers, which DuckDB reads from version 2 on. benchmarks/archive_layouts.py
compares the layouts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.observation import TIMEPOINT
from aqltelemetry.reading.outcomes import roles
from aqltelemetry.reading.rows import Codes, Rows

AT_NS, VALUE_NS, VALUE, LABEL, PID, WRITER = "at_ns", "value_ns", "value", "label", "pid", "writer"
"""The columns."""
GROUP_ROWS = 1 << 18
"""Rows of a row group."""
_PAGE_ROWS = 1 << 17  # a page of a MiB, of which zstd compresses 128 KiB at a time
_ZSTD_LEVEL = 9
_NS = 1e9
_MAX_EXACT = float(1 << 53)
_INTEGERS = (AT_NS, VALUE_NS, TIMEPOINT)
_DELTA = "DELTA_BINARY_PACKED"


def pyarrow() -> Any:
    """Return the package; raises MissingExtraError."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError("pyarrow", exc) from exc
    return pa


def release_memory() -> None:
    """Return the memory that pyarrow keeps for later, if it is installed."""
    with suppress(MissingExtraError):
        pyarrow().default_memory_pool().release_unused()


def in_order(rows: Rows) -> Rows:
    """Return rows sorted by label and time; equal ones stay in their order."""
    ranks = label_ranks(rows)
    later = np.diff(ranks)
    if ((later > 0) | ((later == 0) & (np.diff(rows.timepoints_ns) >= 0))).all():
        return rows
    return rows[sorted_by(rows.timepoints_ns, ranks)]


def label_ranks(rows: Rows) -> Codes:
    """Return the place of each row's label in the alphabetical order of the labels."""
    return _ranks(rows, rows.labels)


def request_ranks(rows: Rows) -> Codes:
    """Return the same, but the rows of a request, its first byte and its failure are equal.

    Sorted by that and by time, they are next to each other, and their times are similar.
    """
    known = roles(rows.labels)
    requests = np.where(known.totals >= 0, known.totals, known.bases)
    return _ranks(rows, [rows.labels[code] for code in requests.tolist()])


def _ranks(rows: Rows, names: Sequence[str]) -> Codes:
    """Return the place of the name of each row's label in their alphabetical order."""
    place = {name: rank for rank, name in enumerate(sorted(set(names)))}
    ranks = np.array([place[name] for name in names], rows.label_codes.dtype)
    return ranks[rows.label_codes] if len(rows) else rows.label_codes


def sorted_by(times_ns: npt.NDArray[np.int64], *codes: Codes) -> npt.NDArray[np.intp]:
    """Return the stable order by several codes, the most important last, and then by time."""
    # Times are runs that are sorted already, and codes are small integers, which numpy sorts by
    # their digits: both are faster than one sort by several keys.
    order: npt.NDArray[np.intp] = np.argsort(times_ns, kind="stable")
    for each in codes:
        order = order[np.argsort(each[order], kind="stable")]
    return order


def table(
    rows: Rows,
    *,
    as_doubles: bool = False,
    for_archive: bool = False,
    constants: Mapping[str, str] | None = None,
    integers: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Any:
    """Return rows as a `pyarrow.Table` of the columns above, in the order that they have.

    Args:
        rows: What to write; see `in_order`.
        as_doubles: Whether to give each value as a double, in `value`.
        for_archive: Whether `value_ns` is a double.
        constants: Further columns, as texts that are equal for all rows: `host`, for example.
        integers: Further columns of integers, as many as there are rows.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pa = pyarrow()
    columns: dict[str, Any] = {AT_NS: pa.array(rows.timepoints_ns)}
    if as_doubles:
        columns[VALUE] = pa.array(rows.measurements)
    else:
        columns[VALUE_NS], columns[VALUE] = _values(pa, rows.measurements)
        if for_archive:
            columns[VALUE_NS] = columns[VALUE_NS].cast(pa.float64())
    pids = np.array([process.pid for process in rows.processes], np.int64)
    columns[LABEL] = _texts(pa, rows.label_codes, rows.labels)
    columns[PID] = pa.array(pids[rows.process_codes] if len(rows) else np.empty(0, np.int64))
    columns[WRITER] = _texts(pa, rows.process_codes, [each.writer for each in rows.processes])
    for name, values in (integers or {}).items():
        columns[name] = pa.array(values)
    for name, text in (constants or {}).items():
        columns[name] = _texts(pa, np.zeros(len(rows), np.int8), [text])
    return pa.table(columns)


def open_writer(
    where: Any, schema: Any, metadata: Mapping[str, str] | None = None, *, keep_types: bool = False
) -> Any:
    """Return a `pyarrow.parquet.ParquetWriter` with the encodings above; raises OSError.

    Args:
        where: A path, or an open file.
        schema: The schema of a `table`.
        metadata: Key-value metadata of the file.
        keep_types: Whether pyarrow reads the same types again, dictionaries for example.
    """
    pa = pyarrow()
    encodings = {name: _DELTA for name in schema.names if name in _INTEGERS}
    options: dict[str, Any] = {}
    if VALUE_NS in encodings and schema.field(VALUE_NS).type == pa.float64():
        encodings[VALUE_NS] = "BYTE_STREAM_SPLIT"
        options["compression_level"] = _ZSTD_LEVEL
        # Earlier versions limit a page by its bytes alone.
        if "max_rows_per_page" in inspect.signature(pa.parquet.ParquetWriter).parameters:
            options["max_rows_per_page"] = _PAGE_ROWS
    writer = pa.parquet.ParquetWriter(
        where,
        schema,
        compression="zstd",
        use_dictionary=[name for name in schema.names if name not in encodings],
        column_encoding=encodings,
        store_schema=keep_types,
        **options,
    )
    if metadata:
        writer.add_key_value_metadata(dict(metadata))
    return writer


def write_others(file: Any, rows: Any, metadata: Mapping[str, str]) -> None:
    """Write a `pyarrow.Table` of other columns into an open file, with key-value metadata."""
    writer = pyarrow().parquet.ParquetWriter(
        file, rows.schema, compression="zstd", store_schema=False
    )
    writer.write_table(rows, row_group_size=GROUP_ROWS)
    writer.add_key_value_metadata(dict(metadata))
    writer.close()


def write(writer: Any, rows: Any) -> None:
    """Write a `table` in row groups."""
    writer.write_table(rows, row_group_size=GROUP_ROWS)


def _values(pa: Any, values: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Return the values as integers where these are exact, and the others as doubles."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(values * _NS)
        is_small = np.abs(scaled) < _MAX_EXACT
        integers = np.where(is_small, scaled, 0).astype(np.int64)
        # Compared by their bits, which differ for 0.0 and -0.0.
        is_exact = is_small & ((integers / _NS).view(np.int64) == values.view(np.int64))
    return pa.array(integers, mask=~is_exact), pa.array(values, mask=is_exact)


def doubles(found: Any) -> npt.NDArray[np.float64]:
    """Return the values of a table that was read."""
    if VALUE_NS not in found.column_names:
        exact: npt.NDArray[np.float64] = found[VALUE].to_numpy()
        return exact
    nanoseconds = found[VALUE_NS]  # integers, or doubles without decimals
    if not nanoseconds.null_count:
        return np.asarray(nanoseconds.to_numpy() / _NS, np.float64)
    values = found[VALUE].to_numpy(zero_copy_only=False).astype(np.float64)  # NaN where null
    scaled = nanoseconds.fill_null(0).to_numpy() / _NS
    is_given = nanoseconds.is_valid().to_numpy(zero_copy_only=False)
    every: npt.NDArray[np.float64] = np.where(is_given, scaled, values)
    return every


def _texts(pa: Any, codes: Codes, texts: Sequence[str]) -> Any:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32)), pa.array(list(texts), pa.string())
    )
