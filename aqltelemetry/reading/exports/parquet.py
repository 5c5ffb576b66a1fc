"""Writes loaded observations into a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from aqltelemetry.observation import LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.rows import WRITER, Rows

PREFIX = "Prefix"
"""Column: the file prefix of an observation."""
_PART_ROWS = 1 << 20


def write(path: str | os.PathLike[str], by_prefix: Mapping[str, Rows]) -> None:
    """Write the rows of all prefixes; the file appears when it is complete."""
    pa = encoding.pyarrow()
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
        schema = pa.schema(types)
        with encoding.open_writer(temporary, schema, keep_types=True) as writer:
            for prefix, rows in by_prefix.items():
                for start in range(0, len(rows), _PART_ROWS):
                    part = rows[start : start + _PART_ROWS].frame.assign(Prefix=prefix)
                    encoding.write(writer, pa.Table.from_pandas(part, schema))
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
