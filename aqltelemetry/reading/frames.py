"""The observations of a file prefix (a frame) and of one of its labels (a series)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from aqltelemetry.errors import SeriesError
from aqltelemetry.observation import COLUMNS, MEASUREMENT, TIMEPOINT
from aqltelemetry.quantities import counted
from aqltelemetry.reading.rows import Rows
from aqltelemetry.system.later import pd

_MAX_SIMILAR = 5


class TelemetrySeries:
    """The time series of one label, with the measurements of all processes.

    Returned by `TelemetryFrame.time_series` and by the methods of `TelemetryDB`.
    """

    def __init__(self, label: str, rows: Rows) -> None:
        self._label = label
        self._rows = rows

    def __repr__(self) -> str:
        return f"<TelemetrySeries {self._label!r}: {counted(len(self._rows), 'observation')}>"

    def label(self) -> str:
        """Return the label."""
        return self._label

    def pids(self) -> list[int]:
        """Return the PIDs of the processes that took the measurements, in ascending order."""
        return self._rows.pids()

    def data(self, by_pid: int | None = None) -> pd.Series[float]:
        """Return the measurements, sorted by time.

        Args:
            by_pid: Return only the measurements of this process; None for all.

        Returns:
            A float64 Series named Measurement. Durations are in seconds. The index is a
            DatetimeIndex named Timepoint, in UTC without a time zone. Empty if the process
            took no measurements.

        Example:
            >>> series.data().resample("1s").quantile(0.99)
        """
        rows = self._rows if by_pid is None else self._rows.of_pid(by_pid)
        in_time = rows[rows.timepoints_ns.argsort(kind="stable")]
        index = pd.DatetimeIndex(in_time.timepoints_ns, name=TIMEPOINT)
        return pd.Series(in_time.measurements, index=index, name=MEASUREMENT)


class TelemetryFrame:
    """The observations of one file prefix, of all labels and processes.

    Returned by `TelemetryDB.frame`, `duration` and `runtime`.
    """

    def __init__(
        self, rows: Rows, known_labels: Callable[[str], Iterable[str]] | None = None
    ) -> None:
        self._rows = rows
        self._known_labels = known_labels

    def __repr__(self) -> str:
        rows = counted(len(self._rows), "observation")
        labels = counted(len(self._rows.labels), "label")
        return f"<TelemetryFrame: {rows}, {labels}>"

    def data(self) -> pd.DataFrame:
        """Return all observations.

        Returns:
            A DataFrame with a row per observation and the columns Timepoint (datetime64[ns],
            UTC without a time zone), Measurement (float64, seconds for durations), Label
            (categorical) and PID (int64). The index is the Timepoint too, so that `resample`
            works. Rows are in the order of the files; `sort_index` sorts them by time.

        Example:
            >>> db.duration().data().groupby("Label", observed=True)["Measurement"].median()
        """
        return _with_time_index(self._rows.frame[list(COLUMNS)])

    def data_by_process(self) -> pd.DataFrame:
        """Return all observations with the process that took them.

        Returns:
            The DataFrame of `data` with one more column, Writer (categorical): the `writer`
            in the file's name. It distinguishes processes with equal PIDs, in two containers
            or before and after a restart.
        """
        return _with_time_index(self._rows.frame.copy(deep=False))

    def labels(self) -> list[str]:
        """Return the labels, in alphabetical order."""
        return list(self._rows.labels)

    def pids(self) -> list[int]:
        """Return the PIDs of the processes, in ascending order."""
        return self._rows.pids()

    def time_series(self, label: str, *, missing_ok: bool = False) -> TelemetrySeries:
        """Return the time series of a label.

        Args:
            label: The exact label, such as `/orders/{id} [GET]`.
            missing_ok: Return an empty series if there are no observations with this label.

        Raises:
            SeriesError: There are observations, but none with this label. The error lists
                similar labels.
        """
        found = self._rows.of_label(label)
        if not len(found) and not missing_ok:
            known = self._known_labels(label) if self._known_labels else self.labels()
            check_known("there is no series", label, known)
        return TelemetrySeries(label, found)


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raise SeriesError if there are known names and `name` is not one of them."""
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
