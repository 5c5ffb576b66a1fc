"""Writes loaded observations into a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.observation import LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.reading.rows import WRITER, Rows

PREFIX = "Prefix"
"""Column: the file prefix of an observation."""
_GROUP_ROWS = 1 << 20


def write(path: str | os.PathLike[str], by_prefix: Mapping[str, Rows]) -> None:
    """Write the rows of all prefixes; the file appears when it is complete."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError("pyarrow", exc) from exc
    text = pa.dictionary(pa.int32(), pa.string())
    types = {
        TIMEPOINT: pa.timestamp("ns"),
        MEASUREMENT: pa.float64(),
        LABEL: text,
        PID: pa.int64(),
        WRITER: text,
        PREFIX: text,
    }
    temporary = f"{os.fspath(path)}.tmp"
    try:
        with parquet.ParquetWriter(temporary, pa.schema(types)) as writer:
            for prefix, rows in by_prefix.items():
                for start in range(0, len(rows), _GROUP_ROWS):
                    part = rows[start : start + _GROUP_ROWS].frame.assign(Prefix=prefix)
                    writer.write_table(pa.Table.from_pandas(part, pa.schema(types)))
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
