"""Rows of CSV files as columns: parsed by pyarrow where it is installed, else by pandas.

Both give the same. What pyarrow refuses, or might read in another way, is left to pandas.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from aqltelemetry.observation import COLUMNS, LABEL, MEASUREMENT, PID, TIMEPOINT

_DTYPES: dict[str, Any] = {
    TIMEPOINT: np.int64,
    MEASUREMENT: np.float64,
    LABEL: "category",
    PID: np.int64,
}
# The fast float parser of older pandas is off by a bit in the last digit; the
# newer ones have but an exact one.
_EXACT_FLOATS: dict[str, Any] = (
    {"float_precision": "round_trip"} if int(pd.__version__.split(".")[0]) < 3 else {}  # noqa: PLR2004
)

# Read before all rows: without a label that is no number, pandas would take labels
# for numbers, 007 for 7; and it has rows of more fields be an error.
_FIRST_ROW = b"0,0,no number,0\n"

Integers: TypeAlias = npt.NDArray[np.integer[Any]]


class Columns(NamedTuple):
    """Rows by column: nanoseconds since the epoch, values, labels by number, processes."""

    timepoints_ns: Integers
    measurements: npt.NDArray[np.float64]
    label_codes: Integers
    labels: Sequence[str]
    pids: Integers


def parse(rows: memoryview, *, lines: int, spaced: bool) -> Columns:
    """Return rows as columns; raises ValueError where one is not as it should be.

    `lines` is how many line ends there are.
    """
    if not spaced and _by_pyarrow is not None:
        found = _by_pyarrow(rows)
        if found is not None and len(found[0]) == lines:
            return Columns(*found)
    return by_pandas(rows, spaced=spaced)


def by_pandas(rows: memoryview, *, spaced: bool = False) -> Columns:
    """As `parse`, by pandas."""
    # Nothing is missing in these files: NA, null and "" are labels like any other.
    try:
        with np.errstate(invalid="raise"):
            frame = pd.read_csv(
                io.BytesIO(_FIRST_ROW + rows),
                names=list(COLUMNS),
                dtype=_DTYPES,
                keep_default_na=False,
                na_values={MEASUREMENT: ["nan"]},
                skipinitialspace=spaced,
                **_EXACT_FLOATS,
                engine="c",
                low_memory=False,
            )
    except ArithmeticError as exc:  # of a number too large
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


def _pyarrow() -> Callable[[memoryview], Any] | None:
    if find_spec("pyarrow") is None:
        return None
    from aqltelemetry.reading.csv_arrow import parse as by_pyarrow  # noqa: PLC0415 - an extra

    return by_pyarrow


_by_pyarrow = _pyarrow()
