"""From CSV files to one pandas frame, many files at a time.

A parser's start costs more than parsing a small file, so the bytes of many files
are joined, headers cut off, and parsed in groups.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aqltelemetry import filenames
from aqltelemetry.observation import COLUMNS, LABEL, MEASUREMENT, PID, TIMEPOINT

_GROUP_BYTES = 16 << 20
WRITER = "Writer"
"""Frame column: the `writer` in the file's name, which tells processes of one PID apart."""
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


class ForeignFileWarning(UserWarning):
    """Says that a CSV file was left out: its header or a row is not a telemetry file's."""


class _Body(NamedTuple):
    """A file's rows, and whether it has spaces after commas.

    `writer` is empty where the name, of the older kind, tells none.
    """

    path: str
    writer: str
    spaced: bool
    rows: bytes


def empty_frame() -> pd.DataFrame:
    """Return a frame without rows, of the columns and types of every other."""
    kinds = {**_DTYPES, WRITER: "category"}
    frame = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    return _typed(frame)


def read_frames(paths: Iterable[str]) -> pd.DataFrame:
    """Return the rows of CSV files: Timepoint datetime64[ns], Label and Writer categorical.

    Files that vanish meanwhile are left out; so is one that is no telemetry file,
    or is damaged, with a ForeignFileWarning. Both styles of header are known:
    `Timepoint,Measurement,Label,PID`, and the older one with a space after each comma.
    """
    frames = [frame for group in _groups(_bodies(paths)) for frame in _parse_group(group)]
    if not frames:
        return empty_frame()
    return concat(frames)


def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join frames whose labels and writers are categorical into one where they are so too."""
    if len(frames) == 1:
        return frames[0]
    joined = pd.concat([frame.drop(columns=[LABEL, WRITER]) for frame in frames], ignore_index=True)
    for at, name in ((COLUMNS.index(LABEL), LABEL), (len(COLUMNS), WRITER)):
        categories: Any = pd.api.types.union_categoricals([frame[name] for frame in frames])
        joined.insert(at, name, categories)
    return joined


def _bodies(paths: Iterable[str]) -> Iterator[_Body]:
    for path in paths:
        try:
            with open(path, "rb") as file:
                header, _, rows = file.read().partition(b"\n")
        except FileNotFoundError:
            continue
        names = [name.strip() for name in header.decode(errors="replace").split(",")]
        if tuple(names) != COLUMNS:
            _warn(path, f"its header is {header[:80]!r}")
            continue
        if rows and not rows.endswith(b"\n"):
            rows += b"\n"
        name = filenames.parse(os.path.basename(path))
        yield _Body(path, name.writer if name else "", b", " in header, rows)


def _groups(bodies: Iterable[_Body]) -> Iterator[list[_Body]]:
    groups: dict[bool, list[_Body]] = {False: [], True: []}
    sizes = {False: 0, True: 0}
    for body in bodies:
        spaced = body.spaced
        groups[spaced].append(body)
        sizes[spaced] += len(body.rows)
        if sizes[spaced] >= _GROUP_BYTES:
            yield groups[spaced]
            groups[spaced], sizes[spaced] = [], 0
    yield from groups.values()


def _parse_group(group: Sequence[_Body]) -> Iterator[pd.DataFrame]:
    """Parse many files at once; where one of them can't be, one by one, without that."""
    if not any(body.rows for body in group):
        return
    try:
        frame = _parse([body.rows for body in group], spaced=group[0].spaced)
        frame[WRITER] = _writers(group, len(frame))
        yield frame
    except ValueError as exc:  # what pandas raises for a row of another kind or length
        if len(group) == 1:
            _warn(group[0].path, str(exc))
            return
        for body in group:
            yield from _parse_group([body])


def _writers(group: Sequence[_Body], rows: int) -> Any:
    """Return each row's writer; raises ValueError where a file's rows can't be told apart."""
    if len(group) == 1:
        counts = [rows]
    elif sum(counts := [body.rows.count(b"\n") for body in group]) != rows:
        msg = "a row is not a line"
        raise ValueError(msg)
    writers = sorted({body.writer for body in group})
    codes = [writers.index(body.writer) for body in group]
    repeated: Any = np.repeat(codes, counts)
    return pd.Categorical.from_codes(repeated, pd.Index(writers))


def _warn(path: str, reason: str) -> None:
    warnings.warn(f"{path}: no telemetry file, left out: {reason}", ForeignFileWarning, 2)


def _parse(bodies: Sequence[bytes], *, spaced: bool) -> pd.DataFrame:
    # Nothing is missing in these files: NA, null and "" are labels like any other.
    frame = pd.read_csv(
        io.BytesIO(b"".join(bodies)),
        names=list(COLUMNS),
        dtype=_DTYPES,
        keep_default_na=False,
        na_values={MEASUREMENT: ["nan"]},
        skipinitialspace=spaced,
        **_EXACT_FLOATS,
        engine="c",
    )
    return _typed(frame)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    frame[TIMEPOINT] = frame[TIMEPOINT].to_numpy().view("datetime64[ns]")
    return frame
