"""Recorded data as pandas objects.

    db = TelemetryDB("_monitoring")
    db.duration().time_series("/version [GET]").data().describe()

The names are those that users of QuantumLeap's telemetry know.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeAlias, TypeVar

import pandas as pd

from aqltelemetry import filenames
from aqltelemetry.csv_frames import Wanted, concat, read_frame, warn
from aqltelemetry.errors import MonitoringDirectoryError
from aqltelemetry.observation import (
    ACCOUNT,
    COLUMNS,
    DURATION,
    LABEL,
    MEASUREMENT,
    PID,
    RUNTIME,
    TIMEPOINT,
)
from aqltelemetry.reading.compression import is_compressed
from aqltelemetry.reading.listing import NotRead, list_published, summary

_LOGGER = logging.getLogger("aqltelemetry")
_R = TypeVar("_R")
_END_NS = 2**63 - 1  # what pandas can hold; in the year 2262
Moment: TypeAlias = int | str | datetime | pd.Timestamp
"""A time: nanoseconds since the epoch, or what pandas.Timestamp takes; UTC if it has no zone."""


class TelemetrySeries:
    """The time series of one label, of one or several processes."""

    def __init__(self, label: str, frame: pd.DataFrame) -> None:
        self._label = label
        self._frame = frame

    def __repr__(self) -> str:
        return f"<TelemetrySeries {self._label!r}: {len(self._frame)} observations>"

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

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        return f"<TelemetryFrame: {len(self._frame)} observations, {len(self.labels())} labels>"

    def data(self) -> pd.DataFrame:
        """Return all rows: Timepoint datetime64[ns], Measurement, Label categorical, PID."""
        return self._frame[list(COLUMNS)]

    def data_by_process(self) -> pd.DataFrame:
        """Return all rows with a column more, Writer, categorical.

        It is the `writer` in the file's name, and tells processes of the same PID
        apart: of two containers, or before and after a restart.
        """
        return self._frame

    def labels(self) -> list[str]:
        """Return the names of the series, in alphabetical order."""
        return sorted(str(label) for label in self._frame[LABEL].unique())

    def pids(self) -> list[int]:
        """Return the processes, in ascending order."""
        return sorted(int(pid) for pid in self._frame[PID].unique())

    def time_series(self, label: str) -> TelemetrySeries:
        """Return the series of a label; one without observations if there is none."""
        return TelemetrySeries(label, self._frame[self._frame[LABEL] == label])


class TelemetryDB:
    """The data recorded into a monitoring directory.

    Only observations with `since <= Timepoint < until` are loaded, and only
    files whose names say that they hold some are read; only those of `labels`, if
    given, and little more of the files is parsed. What is not asked for takes no
    memory. Files are loaded at first use; `refresh` has new ones looked for. Raises
    MonitoringDirectoryError where there is no such directory.
    """

    def __init__(
        self,
        monitoring_dir: str | os.PathLike[str],
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        labels: Iterable[str] | None = None,
    ) -> None:
        self._directory = os.fspath(monitoring_dir)
        self._wanted = Wanted(
            None if since is None else _nanoseconds(since),
            None if until is None else _nanoseconds(until),
            None if labels is None else frozenset(labels),
        )
        self._frames: dict[str, pd.DataFrame] = {}
        self._read: dict[str, set[str]] = {}
        self._not_read: dict[str, NotRead] = {}
        _ask(os.scandir, self._directory).close()

    def __repr__(self) -> str:
        return f"TelemetryDB({self._directory!r})"

    @staticmethod
    def from_csv_files(monitoring_dir: str | os.PathLike[str], file_prefix: str) -> TelemetryFrame:
        """Return the observations of the files `<file_prefix>.*.csv`."""
        return TelemetryDB(monitoring_dir).frame(file_prefix)

    def frame(self, file_prefix: str) -> TelemetryFrame:
        """Return the observations of a file prefix; one's own prefixes are as good."""
        if file_prefix not in self._frames:
            self._load(file_prefix)
        return TelemetryFrame(self._frames[file_prefix])

    def refresh(self) -> None:
        """Load what was published since the last look, of the prefixes in use."""
        for prefix in self._frames:
            self._load(prefix)

    def prefixes(self) -> list[str]:
        """Return the prefixes of which there are files, in alphabetical order.

        The accounts are left out: they hold no observations.
        """
        return sorted({name.split(".", 1)[0] for name in self._list().values()} - {ACCOUNT})

    def duration(self) -> TelemetryFrame:
        """Return the durations, in seconds."""
        return self.frame(DURATION)

    def runtime(self) -> TelemetryFrame:
        """Return what the samplers observed."""
        return self.frame(RUNTIME)

    def gc_collections(self) -> TelemetrySeries:
        """Return the number of collections since each interpreter's start."""
        return self.runtime().time_series("gc collections")

    def gc_collected(self) -> TelemetrySeries:
        """Return the number of objects collected since each interpreter's start."""
        return self.runtime().time_series("gc collected")

    def gc_uncollectable(self) -> TelemetrySeries:
        """Return the number of objects found uncollectable since each interpreter's start."""
        return self.runtime().time_series("gc uncollectable")

    def max_rss(self) -> TelemetrySeries:
        """Return the largest resident set size; kilobytes on Linux, bytes on macOS."""
        return self.runtime().time_series("max rss")

    def system_time(self) -> TelemetrySeries:
        """Return the processor time spent in the kernel, in seconds."""
        return self.runtime().time_series("system time")

    def user_time(self) -> TelemetrySeries:
        """Return the processor time spent in user mode, in seconds."""
        return self.runtime().time_series("user time")

    def _load(self, prefix: str) -> None:
        read = self._read.setdefault(prefix, set())
        files = self._list()
        new = {
            name: published
            for name, published in files.items()
            if published not in read and published.startswith(prefix + ".")
        }
        wanted = self._wanted.files(sorted(new))
        known = self._frames.get(prefix)
        if known is not None and not wanted:
            return
        read.update(new[name] for name in wanted)

        def leave_out(name: str, reason: str) -> None:
            if is_compressed(name):  # it may be complete later
                read.discard(new.get(name, filenames.uncompressed(name)))
            self._leave_out(NotRead(name, reason))

        frame = read_frame(self._directory, wanted, self._wanted, leave_out)
        self._frames[prefix] = concat([known, frame]) if known is not None else frame

    def _list(self) -> Mapping[str, str]:
        listing = _ask(list_published, self._directory)
        new = [each for each in listing.not_read if each.name not in self._not_read]
        if new:
            self._not_read.update((each.name, each) for each in new)
            _LOGGER.warning("%s: %s", self._directory, summary(new))
        return listing.files

    def _leave_out(self, file: NotRead) -> None:
        if file.name not in self._not_read:
            self._not_read[file.name] = file
            warn(os.path.join(self._directory, file.name), file.reason)

    def not_read(self) -> list[NotRead]:
        """Return the files that look like published ones but were not read, and why.

        Of the prefixes in use; each has the attributes `name`, `reason`, and `is_lost`, which
        is false for a copy of a file that was read.
        """
        return sorted(self._not_read.values())


def _nanoseconds(moment: Moment) -> int:
    if isinstance(moment, int):
        return max(-_END_NS, min(moment, _END_NS))
    stamp = pd.Timestamp(moment)
    if stamp.tzinfo is not None:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    return int(stamp.as_unit("ns").value)


def _ask(look: Callable[[str], _R], directory: str) -> _R:
    try:
        return look(directory)
    except FileNotFoundError:
        raise MonitoringDirectoryError(
            directory, "must exist; nothing was recorded there"
        ) from None
    except NotADirectoryError:
        raise MonitoringDirectoryError(directory, "must be a directory, not a file") from None
