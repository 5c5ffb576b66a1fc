"""Recorded data as pandas objects.

    db = TelemetryDB("_monitoring", since="1 hour ago")
    db.duration().time_series("/version [GET]").data().describe()

The names are those that users of QuantumLeap's telemetry know.
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
"""A time, as `reading.moments.moment_ns` takes it, in the local zone if it names none.

Those of pandas and numpy are UTC if they have no zone, as the indexes of the data are.
"""
_ALWAYS_KNOWN = (DURATION, RUNTIME, CUSTOM, ACCOUNT)


class TelemetryDB:
    """The data recorded into a monitoring directory.

    Only observations with `since <= Timepoint < until` are loaded, and only
    files whose names say that they hold some are read; only those of `labels`, one or
    several, if given, and little more of the files is parsed. What is not asked for takes
    no memory. Files are loaded at first use; `refresh` has new ones looked for.

    `since` and `until` are times: a datetime, a date, a timedelta (before now), a number of
    seconds or nanoseconds since the epoch, or a text such as `5m`, `1 hour ago`,
    `yesterday`, `14:30`, `2026-11-24T10:00:00+01:00`. Without a zone they are local, but
    those of pandas are UTC.

    Raises MonitoringDirectoryError where there is no such directory, MomentError where
    `since` or `until` is no time, OptionError where `labels` are no texts.
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
        _ask(os.scandir, self._directory).close()

    def __repr__(self) -> str:
        return f"TelemetryDB({self._directory!r})"

    @property
    def since_ns(self) -> int | None:
        """The time from which on observations are loaded: nanoseconds since the epoch."""
        return self._wanted.since_ns

    @staticmethod
    def from_csv_files(monitoring_dir: str | os.PathLike[str], file_prefix: str) -> TelemetryFrame:
        """Return the observations of the files `<file_prefix>.*.csv`; see `frame`."""
        return TelemetryDB(monitoring_dir).frame(file_prefix)

    def frame(self, file_prefix: str, *, missing_ok: bool = False) -> TelemetryFrame:
        """Return the observations of a file prefix; one's own prefixes are as good.

        Raises SeriesError where there are files, but none of this prefix, unless it is one
        that every recording may have, or `missing_ok`; then there are no observations.
        """
        if file_prefix not in self._frames:
            if not missing_ok and file_prefix not in _ALWAYS_KNOWN:
                check_known("there are no files of the prefix", file_prefix, self.prefixes())
            self._load(file_prefix)

        def known_labels(label: str) -> Iterable[str]:
            return self._known_labels(file_prefix, label)

        return TelemetryFrame(self._frames[file_prefix], known_labels)

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
        return self._sampled("gc collections")

    def gc_collected(self) -> TelemetrySeries:
        """Return the number of objects collected since each interpreter's start."""
        return self._sampled("gc collected")

    def gc_uncollectable(self) -> TelemetrySeries:
        """Return the number of objects found uncollectable since each interpreter's start."""
        return self._sampled("gc uncollectable")

    def max_rss(self) -> TelemetrySeries:
        """Return the largest resident set size; kilobytes on Linux, bytes on macOS."""
        return self._sampled("max rss")

    def system_time(self) -> TelemetrySeries:
        """Return the processor time spent in the kernel, in seconds."""
        return self._sampled("system time")

    def user_time(self) -> TelemetrySeries:
        """Return the processor time spent in user mode, in seconds."""
        return self._sampled("user time")

    def _sampled(self, label: str) -> TelemetrySeries:
        return self.runtime().time_series(label, missing_ok=True)

    def _known_labels(self, prefix: str, label: str) -> Iterable[str]:
        """Return the labels of a prefix; of all that are there, if only some are loaded."""
        wanted = self._wanted
        if wanted.labels is None:
            return self._frames[prefix][LABEL].unique()
        if label not in wanted.labels:
            raise SeriesError(
                "only other labels were asked for:", label, tuple(sorted(wanted.labels))
            )
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
        listing = _ask(list_published, self._directory)
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
        """Return the files that look like published ones but were not read, and why.

        Of the prefixes in use; each has the attributes `name`, `reason`, and `is_lost`, which
        is false for a copy of a file that was read.
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


def _ask(look: Callable[[str], _R], directory: str) -> _R:
    try:
        return look(directory)
    except FileNotFoundError:
        raise MonitoringDirectoryError(
            directory, "must exist; nothing was recorded there"
        ) from None
    except NotADirectoryError:
        raise MonitoringDirectoryError(directory, "must be a directory, not a file") from None
