"""Loads recorded data as pandas objects.

The names of the methods are those of QuantumLeap's telemetry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from aqltelemetry.observation import (
    ACCOUNT,
    CPU_TIME,
    CUSTOM,
    DURATION,
    RUNTIME,
    STALL,
)
from aqltelemetry.reading.arguments import (
    Directory,
    Moment,
    checked_directories,
    checked_labels,
    checked_pids,
    to_nanoseconds,
)
from aqltelemetry.reading.csv_frames import Wanted
from aqltelemetry.reading.frames import TelemetryFrame, TelemetrySeries, check_known
from aqltelemetry.reading.listing import NotRead
from aqltelemetry.reading.loading import Loader
from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.sources import Sources
from aqltelemetry.reading.stalls.details import Details, StallDetails, StallKey
from aqltelemetry.reading.tables import Tables
from aqltelemetry.reading.writers import Writers
from aqltelemetry.sinks import stall_details
from aqltelemetry.system.later import pd

_ALWAYS_KNOWN = (DURATION, RUNTIME, CUSTOM, ACCOUNT, STALL, CPU_TIME)


class TelemetryDB(Tables):
    """Reads what was recorded into monitoring directories as pandas objects.

    Files are loaded when a method first needs them, and kept in memory; `refresh` loads
    files that were published since. Observations outside `since`, `until` and `labels` take
    no memory, and files whose names lie outside the time span are not opened. A damaged or
    foreign file is left out with a ForeignFileWarning; see `not_read`.

    With `live`, observations that are not published yet are read from the journals of running
    and killed processes, each observation once. This writes nothing, and no process waits for
    it. The data are those of the first method call, or of the last `refresh`. A journal that
    can't be read is in `not_read`.

    Args:
        monitoring_dir: The directory that was recorded into, or several.
        since: Load only observations at or after this time; None for no limit.
        until: Load only observations before this time; None for no limit.
            A time is a datetime, a date, a timedelta (before now), a number of seconds or
            nanoseconds since the epoch, or a text such as `5m`, `1 hour ago`, `yesterday`,
            `14:30` or `2026-11-24T10:00:00+01:00`. It is local unless it has a time zone;
            times of pandas and numpy are UTC then.
        labels: Load only the time series of this label or these labels, and of their outcomes:
            `/orders [GET] 5xx` for `/orders [GET]`, so that errors are counted; None for all.
        pids: Load only the observations of this process or these processes; None for all.
        live: Read what is not published yet, too.
        journal_dir: The option `journal_dir` of the recording, if it had one.
        progress: Called with the number of files of a prefix that were read, and that will be.

    Raises:
        MonitoringDirectoryError: A directory does not exist.
        MomentError: `since` or `until` is not a time.
        OptionError: `labels` or `pids` has a wrong type, or no directory is given.

    Example:
        >>> db = TelemetryDB("_monitoring", since="1 hour ago")
        >>> db.duration().labels()
        ['/orders [POST]', '/orders/{id} [GET]']
        >>> db.duration().time_series("/orders/{id} [GET]").data().describe()
    """

    def __init__(  # noqa: PLR0913 - by name, except for the first
        self,
        monitoring_dir: Directory | Iterable[Directory],
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        labels: str | Iterable[str] | None = None,
        pids: int | Iterable[int] | None = None,
        live: bool = False,
        journal_dir: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self._directories = checked_directories(monitoring_dir)
        wanted = Wanted(
            None if since is None else to_nanoseconds(since, "since"),
            None if until is None else to_nanoseconds(until, "until"),
            None if labels is None else checked_labels(labels),
            None if pids is None else checked_pids(pids),
        )
        sources = Sources(self._directories, live=live, journal_dir=journal_dir)
        self._loader = Loader(sources, wanted, is_live=live, progress=progress)
        self._writers = Writers()
        self._details = StallDetails(self._directories)

    def __repr__(self) -> str:
        return f"TelemetryDB({', '.join(map(repr, self._directories))})"

    @property
    def since_ns(self) -> int | None:
        """The time `since`, in nanoseconds since the epoch; None if there is no limit."""
        return self._loader.wanted.since_ns

    @property
    def until_ns(self) -> int | None:
        """The time `until`, in nanoseconds since the epoch; None if there is no limit."""
        return self._loader.wanted.until_ns

    @property
    def directories(self) -> list[str]:
        """The monitoring directories that are read."""
        return list(self._directories)

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
                `duration`, `runtime`, `custom`, `account`, `stall` and `cpu_time` may always be
                missing.

        Raises:
            SeriesError: There are files, but none with this prefix.
            MonitoringDirectoryError: The directory was removed.

        Example:
            >>> db.frame("queue").time_series("length").data().max()
        """

        def known_labels(label: str) -> Iterable[str]:
            return self._loader.known_labels(file_prefix, label)

        return TelemetryFrame(self.rows(file_prefix, missing_ok=missing_ok), known_labels)

    def rows(self, file_prefix: str, *, missing_ok: bool = False) -> Rows:
        """Return the observations of a file prefix as numpy arrays; see `frame`.

        They must not be changed. No DataFrame is made, which takes less time and memory.
        """
        is_known = self._loader.has(file_prefix) or missing_ok or file_prefix in _ALWAYS_KNOWN
        if not is_known:
            check_known("there are no files of the prefix", file_prefix, self.prefixes())
        return self._loader.rows(file_prefix)

    def parts(self, file_prefix: str) -> list[Rows]:
        """Return the observations of a file prefix as numpy arrays, in parts.

        After `refresh`, most parts are the same objects as before: what was loaded is not copied.
        They must not be changed. There are no parts if there are no files with this prefix.
        """
        return self._loader.parts(file_prefix)

    def snapshot(self) -> TelemetryDB:
        """Return a database of what is loaded now, which another thread may use.

        It shares the observations, and must not be refreshed.
        """
        loader = copy(self._loader)
        loader.detach()
        found = copy(self)
        vars(found).update(_loader=loader)
        return found

    def limits(self) -> Wanted:
        """Return the limits `since`, `until`, `labels` and `pids`."""
        return self._loader.wanted

    def stall_details(self) -> Iterable[Mapping[str, Any]]:
        """Return the details of stalls, as docs/reference/formats.md describes them; see `stalls`.

        They are read from their files at each call.
        """
        return stall_details.read(self._directories, with_unpublished=self._loader.is_live)

    def details_of_stalls(self) -> tuple[int, Callable[[], Mapping[StallKey, Sequence[Details]]]]:
        """Return the version of the details of stalls, and a function that returns them.

        Of files in the loaded time; each published one is read once. Those that are not published
        yet may belong to published rows.
        """
        self._details.refresh(self._loader.wanted)
        return self._details.version, self._details.by_key

    def refresh(self) -> None:
        """Load what was published or recorded since, of the prefixes that were loaded before.

        Frames and series that were returned earlier do not change: call the methods again.

        Raises:
            MonitoringDirectoryError: The directory was removed.
        """
        self._loader.refresh()

    def prefixes(self) -> list[str]:
        """Return the prefixes of what there is to read, in alphabetical order.

        `account` is left out, since accounts contain no observations.

        Raises:
            MonitoringDirectoryError: The directory was removed.
        """
        return sorted(self._loader.sources().prefixes() - {ACCOUNT})

    def writers(self) -> pd.DataFrame:
        """Return what is known of each recording, running or ended.

        Returns:
            A DataFrame with a row per recording, indexed by PID and Writer. `begin` and `end`
            are the first and the last known times in it (Timestamps, UTC). `state` is

            - `running`: its process lives; known only if this database is live;
            - `stopped`: it was ended in order;
            - `killed`: its process ended otherwise;
            - `unknown`: no file and no journal says that it has ended, or that it goes on.

        Raises:
            MonitoringDirectoryError: A directory was removed.

        Example:
            >>> db.writers()["state"].value_counts()
        """
        found = self._writers.describe(self._loader.sources())
        pids = self._loader.wanted.pids
        return found if pids is None else found[found.index.isin(pids, level=0)]

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

    def cpu_time(self) -> TelemetryFrame:
        """Return how long blocks, functions and requests ran on a processor.

        Returns:
            The observations of the prefix `cpu_time`, in seconds, which `cpu=True` and the option
            `with_cpu_time` record. Each has the label, the process and the timepoint of a duration.
            It is empty if nothing was recorded.

        Example:
            >>> db.cpu_time().time_series("/orders/{id} [GET]").data().quantile(0.99)
        """
        return self.frame(CPU_TIME)

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

    def not_read(self) -> list[NotRead]:
        """Return the files and journals that were not read, by name.

        Of files, those that look like published ones, of the prefixes that were loaded. Each
        has the attributes `name`, `reason`, and `is_lost`, which is False for a copy of a file
        that was read.

        Example:
            >>> [(file.name, file.reason) for file in db.not_read()]
        """
        return self._loader.not_read
