"""Rows of CSV files as columns by pyarrow, on all processors; comes with an extra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from aqltelemetry.observation import COLUMNS, LABEL, MEASUREMENT, PID, TIMEPOINT

_BLOCK_BYTES = 4 << 20
_READ = csv.ReadOptions(column_names=list(COLUMNS), block_size=_BLOCK_BYTES)
_CONVERT = csv.ConvertOptions(
    column_types={
        TIMEPOINT: pa.int64(),
        MEASUREMENT: pa.float64(),
        LABEL: pa.dictionary(pa.int32(), pa.string()),
        PID: pa.int64(),
    },
    null_values=[],
    strings_can_be_null=False,
    quoted_strings_can_be_null=False,
)


def parse(rows: memoryview) -> tuple[Any, Any, Any, list[str], Any] | None:
    """Return timepoints, measurements, numbers of labels, labels, processes.

    None where a measurement is not finite, or a row not as it should be.
    """
    try:
        table = csv.read_csv(pa.py_buffer(rows), read_options=_READ, convert_options=_CONVERT)
    except pa.ArrowInvalid:
        return None
    measurements = table[MEASUREMENT].to_numpy()
    if not np.isfinite(measurements).all():
        return None
    labels = table[LABEL].unify_dictionaries().combine_chunks()
    if isinstance(labels, pa.ChunkedArray):
        labels = labels.chunk(0)
    return (
        table[TIMEPOINT].to_numpy(),
        measurements,
        labels.indices.to_numpy(),
        labels.dictionary.to_pylist(),
        table[PID].to_numpy(),
    )
