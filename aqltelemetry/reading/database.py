"""Loads recorded data as pandas objects.

The names of the methods are those of QuantumLeap's telemetry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import TypeAlias, TypeVar

import numpy as np
import pandas as pd

from aqltelemetry.errors import MonitoringDirectoryError, OptionError, SeriesError
from aqltelemetry.observation import (
    ACCOUNT,
    CUSTOM,
    DURATION,
    LABEL,
    RUNTIME,
)
from aqltelemetry.reading.compression import is_compressed
from aqltelemetry.reading.csv_frames import Wanted, concat, read_frame, warn
from aqltelemetry.reading.frames import TelemetryFrame, TelemetrySeries, check_known
from aqltelemetry.reading.listing import NotRead, list_published, summary
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.sinks import file_names
from aqltelemetry.system.logs import log

_R = TypeVar("_R")
_END_NS = 2**63 - 1  # what pandas can hold; in the year 2262
Moment: TypeAlias = int | float | str | date | timedelta | np.datetime64 | np.timedelta64
"""A time as `reading.moments.moment_ns` accepts it; local unless it has a time zone.

Times of pandas and numpy without a time zone are UTC, as the indexes of the data are.
"""
_ALWAYS_KNOWN = (DURATION, RUNTIME, CUSTOM, ACCOUNT)


class TelemetryDB:
    """Reads the published files of a monitoring directory as pandas objects.

    Files are loaded when a method first needs them, and kept in memory; `refresh` loads
    files that were published since. Observations outside `since`, `until` and `labels` take
    no memory, and files whose names lie outside the time span are not opened. A damaged or
    foreign file is left out with a ForeignFileWarning; see `not_read`.

    Args:
        monitoring_dir: The directory that was recorded into.
        since: Load only observations at or after this time; None for no limit.
        until: Load only observations before this time; None for no limit.
            A time is a datetime, a date, a timedelta (before now), a number of seconds or
            nanoseconds since the epoch, or a text such as `5m`, `1 hour ago`, `yesterday`,
            `14:30` or `2026-11-24T10:00:00+01:00`. It is local unless it has a time zone;
            times of pandas and numpy are UTC then.
        labels: Load only the time series of this label or these labels; None for all.

    Raises:
        MonitoringDirectoryError: The directory does not exist.
        MomentError: `since` or `until` is not a time.
        OptionError: `labels` contains something other than texts.

    Example:
        >>> db = TelemetryDB("_monitoring", since="1 hour ago")
        >>> db.duration().labels()
        ['/orders [POST]', '/orders/{id} [GET]']
        >>> db.duration().time_series("/orders/{id} [GET]").data().describe()
    """

    def __init__(
        self,
        monitoring_dir: str | os.PathLike[str],
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        labels: str | Iterable[str] | None = None,
    ) -> None:
        self._directory = os.fspath(monitoring_dir)
        self._wanted = Wanted(
            None if since is None else _nanoseconds(since, "since"),
            None if until is None else _nanoseconds(until, "until"),
            None if labels is None else _labels(labels),
        )
        self._frames: dict[str, pd.DataFrame] = {}
        self._read: dict[str, set[str]] = {}
        self._not_read: dict[str, NotRead] = {}
        _look_into(os.scandir, self._directory).close()

    def __repr__(self) -> str:
        return f"TelemetryDB({self._directory!r})"

    @property
    def since_ns(self) -> int | None:
        """The time `since`, in nanoseconds since the epoch; None if there is no limit."""
        return self._wanted.since_ns

    @property
    def directories(self) -> list[str]:
        """The monitoring directories that are read."""
        return [self._directory]

    @staticmethod
    def from_csv_files(monitoring_dir: str | os.PathLike[str], file_prefix: str) -> TelemetryFrame:
        """Return all observations of a file prefix: `TelemetryDB(monitoring_dir).frame(...)`.

        Args:
            monitoring_dir: The directory that was recorded into.
            file_prefix: The first part of the files' names; see `frame`.

        Raises:
            MonitoringDirectoryError: The directory does not exist.
            SeriesError: There are files, but none with this prefix.
        """
        return TelemetryDB(monitoring_dir).frame(file_prefix)

    def frame(self, file_prefix: str, *, missing_ok: bool = False) -> TelemetryFrame:
        """Return the observations of a file prefix.

        Args:
            file_prefix: The first part of the files' names: `duration`, `runtime`, `custom`,
                or the prefix of a sampler or of `record`.
            missing_ok: Return an empty frame if there are no files with this prefix.
                `duration`, `runtime`, `custom` and `account` may always be missing.

        Raises:
            SeriesError: There are files, but none with this prefix.
            MonitoringDirectoryError: The directory was removed.

        Example:
            >>> db.frame("queue").time_series("length").data().max()
        """
        if file_prefix not in self._frames:
            if not missing_ok and file_prefix not in _ALWAYS_KNOWN:
                check_known("there are no files of the prefix", file_prefix, self.prefixes())
            self._load(file_prefix)

        def known_labels(label: str) -> Iterable[str]:
            return self._known_labels(file_prefix, label)

        return TelemetryFrame(self._frames[file_prefix], known_labels)

    def refresh(self) -> None:
        """Load files that were published since, of the prefixes that were loaded before.

        Frames and series that were returned earlier do not change: call the methods again.

        Raises:
            MonitoringDirectoryError: The directory was removed.
        """
        for prefix in self._frames:
            self._load(prefix)

    def prefixes(self) -> list[str]:
        """Return the prefixes of the files in the directory, in alphabetical order.

        `account` is left out, since accounts contain no observations.

        Raises:
            MonitoringDirectoryError: The directory was removed.
        """
        return sorted({name.split(".", 1)[0] for name in self._list().values()} - {ACCOUNT})

    def duration(self) -> TelemetryFrame:
        """Return the durations of blocks, functions and requests.

        Returns:
            The observations of the prefix `duration`, in seconds. A label is that of the block,
            or the route and method of a request, such as `/orders/{id} [GET]`. It is empty if
            nothing was recorded.

        Example:
            >>> db.duration().time_series("/orders/{id} [GET]").data().quantile(0.99)
        """
        return self.frame(DURATION)

    def runtime(self) -> TelemetryFrame:
        """Return the measurements of the built-in samplers.

        Returns:
            The observations of the prefix `runtime`. Their unit depends on the label: `rss` is
            in bytes, `event loop lag` and `gc pause` in seconds; docs/reference/labels.md lists
            all. It is empty if nothing was sampled.

        Example:
            >>> db.runtime().time_series("rss").data().max()
        """
        return self.frame(RUNTIME)

    def gc_collections(self) -> TelemetrySeries:
        """Return the number of garbage collections.

        Returns:
            The time series of all processes, counted from the start of each interpreter.
            It is empty if nothing was sampled.

        Example:
            >>> db.gc_collections().data(by_pid=4123).diff().sum()
        """
        return self._sampled("gc collections")

    def gc_collected(self) -> TelemetrySeries:
        """Return the number of objects that the garbage collector has freed.

        Returns:
            The time series of all processes, counted from the start of each interpreter.
            It is empty if nothing was sampled.

        Example:
            >>> db.gc_collected().data(by_pid=4123).diff().sum()
        """
        return self._sampled("gc collected")

    def gc_uncollectable(self) -> TelemetrySeries:
        """Return the number of objects that the garbage collector could not free.

        Returns:
            The time series of all processes, counted from the start of each interpreter.
            It is empty if nothing was sampled.

        Example:
            >>> db.gc_uncollectable().data().max()
        """
        return self._sampled("gc uncollectable")

    def max_rss(self) -> TelemetrySeries:
        """Return the largest resident set size of each process so far.

        Returns:
            The time series of all processes, in kilobytes on Linux and in bytes on macOS.
            It is empty if nothing was sampled.

        Example:
            >>> db.max_rss().data().max()
        """
        return self._sampled("max rss")

    def system_time(self) -> TelemetrySeries:
        """Return the CPU time in kernel mode.

        Returns:
            The time series of all processes, in seconds from the start of each process.
            It is empty if nothing was sampled.

        Example:
            >>> db.system_time().data(by_pid=4123).max()
        """
        return self._sampled("system time")

    def user_time(self) -> TelemetrySeries:
        """Return the CPU time in user mode.

        Returns:
            The time series of all processes, in seconds from the start of each process.
            It is empty if nothing was sampled.

        Example:
            >>> db.user_time().data(by_pid=4123).max()
        """
        return self._sampled("user time")

    def _sampled(self, label: str) -> TelemetrySeries:
        return self.runtime().time_series(label, missing_ok=True)

    def _known_labels(self, prefix: str, label: str) -> Iterable[str]:
        """Return the labels of a prefix, including those that the option `labels` left out."""
        wanted = self._wanted
        if wanted.labels is None:
            return self._frames[prefix][LABEL].unique()
        if label not in wanted.labels:
            raise SeriesError("only other labels are loaded:", label, tuple(sorted(wanted.labels)))
        names = (name for name, of in self._list().items() if of.startswith(prefix + "."))
        everything = replace(wanted, labels=None)
        frame = read_frame(self._directory, everything.files(names), everything, _ignore)
        return frame[LABEL].unique()

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
                read.discard(new.get(name, file_names.uncompressed(name)))
            self._leave_out(NotRead(name, reason))

        frame = read_frame(self._directory, wanted, self._wanted, leave_out)
        self._frames[prefix] = concat([known, frame]) if known is not None else frame

    def _list(self) -> Mapping[str, str]:
        listing = _look_into(list_published, self._directory)
        new = [each for each in listing.not_read if each.name not in self._not_read]
        if new:
            self._not_read.update((each.name, each) for each in new)
            log.warning("%s: %s", self._directory, summary(new))
        return listing.files

    def _leave_out(self, file: NotRead) -> None:
        if file.name not in self._not_read:
            self._not_read[file.name] = file
            warn(os.path.join(self._directory, file.name), file.reason)

    def not_read(self) -> list[NotRead]:
        """Return the files that look like published ones but were not read, by name.

        Of the prefixes that were loaded. Each has the attributes `name`, `reason`, and
        `is_lost`, which is False for a copy of a file that was read.

        Example:
            >>> [(file.name, file.reason) for file in db.not_read()]
        """
        return sorted(self._not_read.values())


def _nanoseconds(moment: Moment, option: str) -> int:
    if isinstance(moment, np.timedelta64):
        moment = pd.Timedelta(moment)
    if isinstance(moment, pd.Timestamp | np.datetime64) and not pd.isna(moment):
        stamp = pd.Timestamp(moment)
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp
        found = int(stamp.as_unit("ns").value)
    else:
        found = moment_ns(moment, option)
    return max(-_END_NS, min(found, _END_NS))


def _labels(labels: str | Iterable[str]) -> frozenset[str]:
    try:
        found = frozenset((labels,) if isinstance(labels, str) else labels)
    except TypeError:
        found = frozenset()
        is_valid = False
    else:
        is_valid = all(isinstance(label, str) for label in found)
    if not is_valid:
        raise OptionError("labels", labels, "must be a label, or several")
    return found


def _ignore(_name: str, _reason: str) -> None:
    pass


def _look_into(look: Callable[[str], _R], directory: str) -> _R:
    """Call `look`; raises MonitoringDirectoryError if it finds no directory."""
    try:
        return look(directory)
    except FileNotFoundError:
        raise MonitoringDirectoryError(
            directory, "must exist; nothing was recorded there"
        ) from None
    except NotADirectoryError:
        raise MonitoringDirectoryError(directory, "must be a directory, not a file") from None
