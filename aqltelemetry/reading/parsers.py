"""Parses rows of CSV text into columns: with pyarrow where it is installed, else with pandas.

Both give the same result. Rows that pyarrow rejects, or might read in another way, are
parsed by pandas.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.observation import COLUMNS, LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.system.extensions import load
from aqltelemetry.system.later import pd

compiled: Any = load(__name__)
"""The compiled parser, or None; `row_parser` tries it first."""
HAVE_PYARROW = find_spec("pyarrow") is not None
"""Whether `parse` tries pyarrow first."""
_ARROW_BLOCK_BYTES = 4 << 20
_DTYPES: dict[str, Any] = {
    TIMEPOINT: np.int64,
    MEASUREMENT: np.float64,
    LABEL: "category",
    PID: np.int64,
}
# Parsed before all rows: without a label that is not a number, pandas would parse labels as
# numbers, 007 as 7. It also makes a row with more fields an error.
_FIRST_ROW = b"0,0,no number,0\n"

Integers: TypeAlias = npt.NDArray[np.integer[Any]]


class Columns(NamedTuple):
    """Rows as columns of equal length.

    `timepoints_ns` are nanoseconds since the epoch; `label_codes` are indexes into `labels`.
    """

    timepoints_ns: Integers
    measurements: npt.NDArray[np.float64]
    label_codes: Integers
    labels: Sequence[str]
    pids: Integers


def parse(rows: memoryview, *, lines: int, spaced: bool) -> Columns:
    """Parse CSV rows without a header.

    `lines` is the number of line ends in `rows`; `spaced` says that there may be a space
    after each comma. Raises ValueError if a row has other fields than it should.
    """
    if HAVE_PYARROW and not spaced:
        columns = by_pyarrow(rows)
        if columns is not None and len(columns.pids) == lines:
            return columns
    return by_pandas(rows, spaced=spaced)


def by_pyarrow(rows: memoryview) -> Columns | None:
    """Parse rows with pyarrow, on all processors.

    Returns None if a measurement is not finite or a row has other fields than it should.
    """
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import csv  # noqa: PLC0415

    types = (pa.int64(), pa.float64(), pa.dictionary(pa.int32(), pa.string()), pa.int64())
    convert = csv.ConvertOptions(
        column_types=dict(zip(COLUMNS, types, strict=True)),
        null_values=[],
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    read = csv.ReadOptions(column_names=list(COLUMNS), block_size=_ARROW_BLOCK_BYTES)
    try:
        table = csv.read_csv(pa.py_buffer(rows), read_options=read, convert_options=convert)
    except pa.ArrowInvalid:
        return None
    measurements = table[MEASUREMENT].to_numpy()
    if not np.isfinite(measurements).all():
        return None
    labels = table[LABEL].unify_dictionaries().combine_chunks()
    if isinstance(labels, pa.ChunkedArray):
        labels = labels.chunk(0)
    return Columns(
        table[TIMEPOINT].to_numpy(),
        measurements,
        labels.indices.to_numpy(),
        labels.dictionary.to_pylist(),
        table[PID].to_numpy(),
    )


def by_pandas(rows: memoryview, *, spaced: bool = False) -> Columns:
    """Parse rows with pandas; see `parse`."""
    # No value counts as missing in these files: NA, null and "" are labels like any other.
    try:
        with np.errstate(invalid="raise"):
            frame = pd.read_csv(
                io.BytesIO(_FIRST_ROW + rows),
                names=list(COLUMNS),
                dtype=_DTYPES,
                keep_default_na=False,
                na_values={MEASUREMENT: ["nan"]},
                skipinitialspace=spaced,
                **_exact_floats(),
                engine="c",
                low_memory=False,
            )
    except ArithmeticError as exc:  # a number is too large
        raise ValueError(str(exc)) from exc
    frame = frame.iloc[1:]
    labels = frame[LABEL].cat
    return Columns(
        frame[TIMEPOINT].to_numpy(),
        frame[MEASUREMENT].to_numpy(),
        labels.codes.to_numpy(),
        [str(label) for label in labels.categories],
        frame[PID].to_numpy(),
    )


def _exact_floats() -> dict[str, Any]:
    """Return the option for exact floats.

    The fast float parser of pandas before version 3 can be wrong in the last bit; later versions
    have only an exact one.
    """
    is_old = int(pd.__version__.split(".")[0]) < 3  # noqa: PLR2004
    return {"float_precision": "round_trip"} if is_old else {}
