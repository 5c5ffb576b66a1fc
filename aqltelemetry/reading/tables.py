"""The tables that are computed from a recording: each number of a view is from one of them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from operator import is_not
from weakref import ReferenceType, ref

from aqltelemetry.observation import ACCOUNT, CPU_TIME, DURATION, RUNTIME, STALL
from aqltelemetry.reading.exports import parquet, sql
from aqltelemetry.reading.exports.pictures import Pictures, pictures_of
from aqltelemetry.reading.frames import check_known
from aqltelemetry.reading.outcomes import with_outcomes
from aqltelemetry.reading.rollups.tables import RollUpTables
from aqltelemetry.reading.rows import Process, Rows, join, with_shared_processes
from aqltelemetry.reading.stalls.overlaps import Overlaps
from aqltelemetry.reading.stalls.tables import StallTables
from aqltelemetry.reading.summaries import drops, on_cpu
from aqltelemetry.reading.summaries.basis import Basis
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.reading.summaries.recorded_time import recorded_s
from aqltelemetry.reading.summaries.slowest import slowest
from aqltelemetry.reading.summaries.summary import LABEL, parse_by, parse_every, summarize, timeline
from aqltelemetry.reading.summaries.values import values
from aqltelemetry.reading.summaries.workers import workers
from aqltelemetry.system.later import pd

_ALWAYS_IN_SQL = (DURATION, RUNTIME, ACCOUNT, STALL, CPU_TIME)


class Tables(StallTables, RollUpTables):
    """Computes tables from the observations that a `TelemetryDB` has loaded.

    Percentiles are exact: each is `numpy.quantile` of all durations of a group, with linear
    interpolation between the two nearest. A duration that is NaN is counted, but is not in
    percentiles, `max_s` and `sum_s`.

    A request or block that fails has one more observation, `<label> 4xx`, `5xx`, `disconnect`
    or `failed`. It counts in a column of `<label>`, and nowhere else, if `<label>` was loaded.
    `TelemetryDB(labels="<label>")` loads these too.
    """

    _basis: ReferenceType[Basis] | None = None

    @abstractmethod
    def rows(self, file_prefix: str, *, missing_ok: bool = False) -> Rows:
        """Return the observations of a file prefix as arrays."""

    @abstractmethod
    def writers(self) -> pd.DataFrame:
        """Return what is known of each recording."""

    @abstractmethod
    def prefixes(self) -> list[str]:
        """Return the prefixes that there are."""

    @property
    @abstractmethod
    def since_ns(self) -> int | None:
        """The time before which nothing was loaded."""

    def summary(
        self, by: str | Iterable[str] = (LABEL,), every: float | str | timedelta | None = None
    ) -> pd.DataFrame:
        """Summarize the durations of each label, process, time bin, or combination of them.

        Args:
            by: What to group by, in this order: some of `label`, `pid` and `writer`, or `()`
                for all durations together.
            every: The length of time bins, such as `"10s"`, a number of seconds or a timedelta;
                None for no bins. Bins are aligned to the epoch, so that those of two recordings
                are the same.

        Returns:
            A DataFrame with a row for each group. Its index has a level for each name in `by`,
            after `begin` with `every`: the bin's start, in UTC without a time zone. With neither,
            there is one row with the index 0, also if there are no durations.

            - `count`: the number of durations. Without `label` in `by`, times to the first
              byte (`<label> ttfb`) do not count, so that each request counts once.
            - `per_s`: `count` divided by the seconds in which at least one process recorded
              (from each process's start to its last sample; at least 1), the same for all
              rows; with `every`, divided by the length of a bin.
            - `errors_4xx`, `errors_5xx`, `disconnects`, `failures`: how many of these requests
              had such a status, were given up by the client; how many blocks raised.
            - `p50_s`, `p90_s`, `p95_s`, `p99_s`, `p999_s`: the duration that 50, 90, 95, 99,
              99.9 % do not exceed, in seconds.
            - `max_s`, `sum_s`: the longest duration, and their sum, in seconds.

            Rows are sorted by `begin`, then by `count`, the largest first. The time to the
            first byte of a request follows the request.

        Raises:
            OptionError: `by` or `every` is not valid.

        Example:
            >>> db.summary()[["count", "p50_s", "p99_s"]].head()
            >>> db.summary(by=("label", "pid"), every="10s").loc["2026-11-24 10:00:00"]
        """
        every_ns = None if every is None else parse_every(every)
        basis = self.basis()
        seconds = recorded_s(basis.spans.values(), self.since_ns)
        return summarize(basis.cells, parse_by(by), every_ns, seconds)

    def timeline(
        self, label: str | Iterable[str] | None = None, every: float | str | timedelta = "10s"
    ) -> pd.DataFrame:
        """Summarize durations over time.

        Args:
            label: One label or several; None for all durations, each request once.
            every: The length of time bins; see `summary`.

        Returns:
            A DataFrame with the columns of `summary` and a row for each time bin, from the first
            one to the last one that contains such a duration. Its index `begin` is the bin's
            start, in UTC without a time zone. Counts of a bin without durations are 0, and its
            percentiles NaN.

        Raises:
            SeriesError: There are durations, but none with this label.
            OptionError: `every` is not valid, or the bins would be more than a million.

        Example:
            >>> db.timeline("/orders/{id} [GET]", every="1s")["p99_s"].plot()
        """
        if label is None:
            return timeline(self.basis().cells, parse_every(every))
        rows = self.rows(DURATION)
        chosen = rows.of_labels(_chosen(label, rows.labels))
        # Without the other labels, a first byte is no part.
        return timeline(Cells(join([chosen])), parse_every(every))

    def slowest(self, n: int = 20, label: str | Iterable[str] | None = None) -> pd.DataFrame:
        """Return the longest durations.

        Args:
            n: How many to return at most.
            label: One label or several; None for all durations, each request once.

        Returns:
            A DataFrame with a row for each duration, the longest first, and the columns `begin`
            and `end` (datetime64[ns], UTC without a time zone), `duration_s` in seconds, `label`,
            `pid`, `writer` (see `Process`), and `outcome`: `4xx`, `5xx`, `disconnect`, `failed`,
            or "" for one that has not failed. If it failed in two ways, one is named. `end` is
            the row's timepoint, and `begin` is `end` minus the duration. What its process did
            in that time:

            - `gc_s`: the seconds in which the garbage collector ran; NaN if it was not sampled.
            - `stall_s`: the seconds in which its event loop was blocked, or the request itself on
              its thread (see `stalls`); NaN if no stall of the process was loaded, as without
              `with_stalls`. A stall on a thread is that of a request if they have 90 % in common.
            - `stall_cause`, `stall_line`: the cause and the line, as `file:line`, of the stall
              that takes the largest part of it; "" if there is none or no line was seen.
            - `cpu_share`: the part of it that ran on a processor, from 0 to 1; NaN if its CPU time
              was not recorded (see `cpu_shares`).

        Raises:
            SeriesError: There are durations, but none with this label.

        Example:
            >>> db.slowest(3)[["begin", "duration_s", "label", "outcome", "stall_line"]]
        """
        basis = self.basis()
        overlaps = Overlaps(basis.runtime, self._joined_stalls, basis.names)
        labels = None if label is None else _chosen(label, basis.cells.labels)
        found = slowest(basis.cells, n, overlaps, labels)
        found["cpu_share"] = on_cpu.shares_of(found, self._cpu_times(basis))
        return found

    def cpu_shares(self) -> pd.DataFrame:
        """Summarize how much of the durations of each label ran on a processor.

        It is known of blocks and functions with `cpu=True`, and of requests with the option
        `with_cpu_time`. The rest of a duration is waiting: for other tasks and threads, the GIL, a
        lock, a file, a socket, or a processor.

        Returns:
            A DataFrame with a row for each label, indexed by `label`, the most CPU time first:

            - `count`: the number of durations whose CPU time was recorded.
            - `duration_s`, `cpu_s`: these durations and their CPU times added up, in seconds.
            - `cpu_share`: `cpu_s` divided by `duration_s`.

        Example:
            >>> db.cpu_shares()["cpu_share"].head()
        """
        basis = self.basis()
        return on_cpu.shares_by_label(basis.cells, Cells(self._cpu_times(basis)))

    def _cpu_times(self, basis: Basis) -> Rows:
        """Return the CPU times; a forked child with several writers is one process."""
        return with_shared_processes([self.rows(CPU_TIME)], basis.names)[0]

    def workers(self) -> pd.DataFrame:
        """Summarize each recorded process.

        Returns:
            A DataFrame with a row for each process, indexed by `pid` and `writer`, in ascending
            order. `writer` distinguishes processes with equal PIDs. A column is NaN where
            nothing was sampled.

            - `begin`, `end`: the first and the last known instant of its recording
              (datetime64[ns], UTC without a time zone): one sampling interval before its first
              sample, or the begin of its first duration, if that is earlier; its last sample or
              duration.
            - `state`: `running`, `stopped` (in order), `killed` (it ended otherwise), or
              `unknown`; see `writers`.
            - `count`, `p50_s`, `p99_s`, `errors_5xx`: as in `summary` without `label`;
              `per_s`: `count` divided by the seconds from `begin` to `end`, at least 1.
            - `in_flight`: requests in progress at its last sample.
            - `gc_collections`: garbage collections since the start of the interpreter, at the
              last sample; `gc_pauses`, `gc_pause_s`, `gc_pause_max_s`: the recorded ones: their
              number, their sum and the longest, in seconds.
            - `cpu_s`: user and system time since the start of the process, in seconds;
              `cpu_percent`: what it used of them between its first and its last sample, in
              percent of that time: 100 is one processor.
            - `rss_bytes`, `rss_max_bytes`: resident memory: the last and the largest sample.
            - `lag_p99_s`, `lag_max_s`: delays of the event loop, in seconds.
            - `dropped`: observations that were taken and not kept.

        Example:
            >>> db.workers()[["count", "p99_s", "cpu_percent", "rss_max_bytes"]]
        """
        return workers(self.basis(), self._states())

    def values(self) -> pd.DataFrame:
        """Summarize the series of `record` and of user-defined samplers.

        Returns:
            A DataFrame with a row for each series, indexed by `prefix` and `label`, with the
            columns `count`, `min`, `median`, `max`, and `last`, the value of the last
            observation, in the unit of the values.
        """
        shown = (DURATION, RUNTIME, STALL, CPU_TIME)
        others = [prefix for prefix in self.prefixes() if prefix not in shown]
        return values({prefix: self.rows(prefix) for prefix in others})

    def dropped(self) -> pd.Series[float]:
        """Count the observations that were taken and not kept.

        Returns:
            A Series indexed by `pid`, `writer` and `reason` (docs/reference/labels.md). It is the
            larger number of the accounts and of the last sample.
        """
        return drops.dropped(self.rows(ACCOUNT), self.rows(RUNTIME))

    def recorded_s(self) -> float:
        """Return the seconds in which at least one process recorded.

        From each process's start to its last sample or duration; time that several processes
        share counts once, and time before `since` does not. At least 1; NaN if there are no
        observations.
        """
        return recorded_s(self.basis().spans.values(), self.since_ns)

    def basis(self) -> Basis:
        """Return what tables are computed from.

        Keep it while you call several methods, so that they compute what they share once. It takes
        about as much memory as the durations, and is valid until the next `refresh`.
        """
        loaded = self.rows(DURATION), self.rows(RUNTIME), self.rows(ACCOUNT)
        basis = self._basis() if self._basis is not None else None
        if basis is None or any(map(is_not, basis.loaded, loaded)):
            basis = Basis(*loaded)
            self._basis = ref(basis)
        return basis

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write all observations into one Parquet file.

        Its columns are Timepoint (timestamp of nanoseconds, UTC), Measurement, Label, PID, Writer
        and Prefix. The file appears when it is complete.

        Args:
            path: The file; an existing one is replaced.

        Raises:
            MissingExtraError: pyarrow is not installed: `pip install aqltelemetry[pyarrow]`.
            OSError: The file can't be written.

        Example:
            >>> db.to_parquet("recording.parquet")
        """
        parquet.write(path, {prefix: self.rows(prefix) for prefix in self.prefixes()})

    def sql(self, query: str) -> pd.DataFrame:
        """Run an SQL query over the observations, with DuckDB.

        Each prefix is a table: `duration`, `runtime`, `stall` and so on, with the columns
        Timepoint (TIMESTAMP_NS, UTC), Measurement (DOUBLE), Label, PID and Writer. Only tables
        whose names occur in the query are loaded. The roll-ups of a prefix are a table too:
        `rollup_duration`, with the columns of docs/reference/formats.md.

        Args:
            query: A query in DuckDB's SQL.

        Returns:
            The result as a DataFrame.

        Raises:
            MissingExtraError: duckdb is not installed: `pip install aqltelemetry[sql]`.
            duckdb.Error: The query is wrong.

        Example:
            >>> db.sql("select Label, quantile_cont(Measurement, 0.99) from duration group by 1")
        """
        tables: dict[str, Callable[[], pd.DataFrame]] = {
            prefix: partial(_frame, self, prefix)
            for prefix in sorted({*self.prefixes(), *_ALWAYS_IN_SQL})
        }
        return sql.run(query, {**tables, **self.rollup_tables()})

    @property
    def plot(self) -> Pictures:
        """Draw the recording with matplotlib, which the extra `plot` installs.

        `plot.timeline()` draws rates, durations and workers over time, `plot.heatmap()` a heat
        map of durations; each returns a figure. `aqltelemetry.reading.exports.pictures.Pictures`
        describes the arguments.

        Raises:
            MissingExtraError: matplotlib is not installed.

        Example:
            >>> db.plot.timeline("/orders/{id} [GET]").savefig("orders.png")
        """
        return pictures_of(self)

    def _states(self) -> Mapping[Process, str]:
        """Return the state of each recording."""
        found = self.writers()
        return {
            Process(int(pid), str(writer)): str(state)
            for (pid, writer), state in zip(found.index, found["state"], strict=True)
        }


def _frame(tables: Tables, prefix: str) -> pd.DataFrame:
    return tables.rows(prefix).frame


def _chosen(label: str | Iterable[str], known: Sequence[str]) -> set[str]:
    """Return these labels and those of their outcomes; raises SeriesError if one is not known."""
    wanted = [label] if isinstance(label, str) else [*label]
    for each in wanted:
        check_known("there is no series", each, known)
    return with_outcomes(wanted)
