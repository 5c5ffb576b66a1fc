"""From CSV files to one pandas frame, many files at a time.

A parser's start costs more than parsing a small file, so the bytes of many files
are joined, headers cut off, and parsed in groups.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aqltelemetry.observation import COLUMNS, LABEL, MEASUREMENT, PID, TIMEPOINT

_GROUP_BYTES = 16 << 20
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
    """Says that a CSV file was left out, since its header is not a telemetry file's."""


def empty_frame() -> pd.DataFrame:
    """Return a frame without rows, of the columns and types of every other."""
    return _typed(pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _DTYPES.items()}))


def read_frames(paths: Iterable[str]) -> pd.DataFrame:
    """Return the rows of CSV files: Timepoint datetime64[ns], Label categorical.

    Files that vanish meanwhile are left out; so is one with another header, with
    a ForeignFileWarning. Both styles of header are known: `Timepoint,Measurement,
    Label,PID`, and the older one with a space after each comma.
    """
    frames = [
        _parse(group, spaced=spaced) for spaced, group in _groups(_bodies(paths)) if any(group)
    ]
    if not frames:
        return empty_frame()
    return concat(frames)


def concat(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join frames whose labels are categorical into one whose labels are so too."""
    if len(frames) == 1:
        return frames[0]
    labels: Any = pd.api.types.union_categoricals([frame[LABEL] for frame in frames])
    joined = pd.concat([frame.drop(columns=LABEL) for frame in frames], ignore_index=True)
    joined.insert(COLUMNS.index(LABEL), LABEL, labels)
    return joined


def _bodies(paths: Iterable[str]) -> Iterator[tuple[bool, bytes]]:
    """Yield each file's bytes after the header, and whether it has spaces after commas."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                header, _, body = file.read().partition(b"\n")
        except FileNotFoundError:
            continue
        names = [name.strip() for name in header.decode(errors="replace").split(",")]
        if tuple(names) != COLUMNS:
            warnings.warn(
                f"{path}: no telemetry file, its header is {header[:80]!r}",
                ForeignFileWarning,
                stacklevel=4,
            )
            continue
        if body and not body.endswith(b"\n"):
            body += b"\n"
        yield b", " in header, body


def _groups(bodies: Iterable[tuple[bool, bytes]]) -> Iterator[tuple[bool, list[bytes]]]:
    groups: dict[bool, list[bytes]] = {False: [], True: []}
    sizes = {False: 0, True: 0}
    for spaced, body in bodies:
        groups[spaced].append(body)
        sizes[spaced] += len(body)
        if sizes[spaced] >= _GROUP_BYTES:
            yield spaced, groups[spaced]
            groups[spaced], sizes[spaced] = [], 0
    yield from groups.items()


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
