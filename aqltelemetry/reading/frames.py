"""The observations of a file prefix, and of one of its labels, as pandas objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

import pandas as pd

from aqltelemetry.errors import SeriesError
from aqltelemetry.observation import COLUMNS, LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.quantities import counted

_MAX_SIMILAR = 5


class TelemetrySeries:
    """The time series of one label, of one or several processes."""

    def __init__(self, label: str, frame: pd.DataFrame) -> None:
        self._label = label
        self._frame = frame

    def __repr__(self) -> str:
        return f"<TelemetrySeries {self._label!r}: {counted(len(self._frame), 'observation')}>"

    def label(self) -> str:
        """Return the name of the series."""
        return self._label

    def pids(self) -> list[int]:
        """Return the processes that took the measurements, in ascending order."""
        return sorted(int(pid) for pid in self._frame[PID].unique())

    def data(self, by_pid: int | None = None) -> pd.Series[float]:
        """Return the measurements, of one process or of all, sorted by time.

        The index is a DatetimeIndex named Timepoint, in UTC without a zone.
        """
        frame = self._frame
        if by_pid is not None:
            frame = frame[frame[PID] == by_pid]
        index = pd.DatetimeIndex(frame[TIMEPOINT], name=TIMEPOINT)
        series = pd.Series(frame[MEASUREMENT].to_numpy(), index=index, name=MEASUREMENT)
        return series.sort_index(kind="stable")


class TelemetryFrame:
    """The observations of one file prefix."""

    def __init__(
        self, frame: pd.DataFrame, known_labels: Callable[[str], Iterable[str]] | None = None
    ) -> None:
        self._frame = frame
        self._known_labels = known_labels

    def __repr__(self) -> str:
        rows, labels = (
            counted(len(self._frame), "observation"),
            counted(len(self.labels()), "label"),
        )
        return f"<TelemetryFrame: {rows}, {labels}>"

    def data(self) -> pd.DataFrame:
        """Return all rows: Timepoint datetime64[ns], Measurement, Label categorical, PID.

        The index is the time too, in UTC without a zone, so that `resample` works. The rows
        are in the order of the files; `sort_index` puts them in the order of time.
        """
        return _with_time_index(self._frame[list(COLUMNS)])

    def data_by_process(self) -> pd.DataFrame:
        """Return what `data` does, with a column more, Writer, categorical.

        It is the `writer` in the file's name, and tells processes of the same PID
        apart: of two containers, or before and after a restart.
        """
        return _with_time_index(self._frame.copy(deep=False))

    def labels(self) -> list[str]:
        """Return the names of the series, in alphabetical order."""
        return sorted(str(label) for label in self._frame[LABEL].unique())

    def pids(self) -> list[int]:
        """Return the processes, in ascending order."""
        return sorted(int(pid) for pid in self._frame[PID].unique())

    def time_series(self, label: str, *, missing_ok: bool = False) -> TelemetrySeries:
        """Return the series of a label.

        Raises SeriesError where there are observations, but none of this label; with
        `missing_ok`, the series is empty then.
        """
        found = self._frame[self._frame[LABEL] == label]
        if found.empty and not missing_ok:
            known = self._known_labels(label) if self._known_labels else self.labels()
            check_known("there is no series", label, known)
        return TelemetrySeries(label, found)


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise SeriesError for a name that is not known, unless none is."""
    names = sorted(str(each) for each in known)
    if names and name not in names:
        raise SeriesError(what, name, _similar(name, names))


def _similar(name: str, names: Sequence[str]) -> tuple[str, ...]:
    folded = {each.casefold(): each for each in names}
    word = name.casefold()
    close = get_close_matches(word, folded, _MAX_SIMILAR)
    containing = [each for each in folded if word in each and each not in close]
    return tuple(folded[each] for each in (*close, *containing))[:_MAX_SIMILAR]


def _with_time_index(frame: pd.DataFrame) -> pd.DataFrame:
    frame.index = pd.DatetimeIndex(frame[TIMEPOINT].to_numpy())
    return frame
