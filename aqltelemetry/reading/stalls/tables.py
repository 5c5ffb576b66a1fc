"""The tables of stalls, each joined once for what was loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from weakref import ReferenceType, ref

from aqltelemetry.observation import STALL
from aqltelemetry.reading.rows import Process, Rows, join
from aqltelemetry.reading.stalls.details import Details, StallKey
from aqltelemetry.reading.stalls.joined import stalls
from aqltelemetry.reading.stalls.lines import stall_lines
from aqltelemetry.reading.stalls.overlaps import Stalls, stalls_by_process
from aqltelemetry.reading.summaries.basis import Basis
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.system.later import pd


class StallTables(ABC):
    """Computes the tables of stalls from what a `TelemetryDB` has loaded."""

    _stalls: tuple[Rows, int, pd.DataFrame] | None = None
    _lines: tuple[pd.DataFrame, ReferenceType[Basis], pd.DataFrame] | None = None

    @abstractmethod
    def rows(self, file_prefix: str, *, missing_ok: bool = False) -> Rows:
        """Return the observations of a file prefix as arrays."""

    @abstractmethod
    def basis(self) -> Basis:
        """Return what tables are computed from."""

    @abstractmethod
    def details_of_stalls(self) -> tuple[int, Callable[[], Mapping[StallKey, Sequence[Details]]]]:
        """Return the version of the details of stalls, and a function that returns them."""

    def stalls(self) -> pd.DataFrame:
        """Return the stalls of event loops, which the option `with_stalls` records.

        Returns:
            A DataFrame with a row for each stall, in order of time, and the columns

            - `begin`, `end` (datetime64[ns], UTC without a time zone), `length_s`: when the event
              loop was asked to answer, when it did, and the seconds between; `earliest`: when it
              was last seen free, so that the stall began between this and `begin`.
            - `cause`: what blocked it, one of docs/guides/stalls.md.
            - `pid`, `writer`: the process; see `Process`.
            - `file`, `line`, `function`: the innermost line of the user's own code, "" and 0 if
              none was seen; `is_exact` is False if an earlier line of the function may be meant;
              `votes`: the part of the time in which this line was seen; `looks`: how often the
              thread was looked at; `innermost`: the line of any code that was seen most.
            - `route`: the label of the request whose handler blocked, "" if none or before it had
              a route; `blocks`: a sequence of the labels of its open blocks, the outermost first;
              `task`, `coroutine`: the names of the task that ran.
            - `waits_for`: what the thread waited for, such as `sleep` or `socket`; `waits_on`: the
              socket with its peer, file, child process or thread, if known; `thread`,
              `thread_line`: the other thread that held the GIL or collected, and its line.
            - `request`, `in_thread`: of a request on a thread, its method and path and the name
              of the thread; "" for an event loop; `is_ended` is False if it went on after the
              watchdog had looked at it for ten seconds.
            - `cpu_s`, `run_delay_s`: the seconds in which the thread ran, and those in which it
              waited for a processor; NaN where unknown; `major_faults`: the page faults that read
              from a disk; `gc_generation`: the generation that was collected, NaN for none.
            - `shares`: the part of the time of each cause; `steps`: how many callbacks and steps
              of tasks were seen; `callbacks`: the functions of those seen most, and how often.

            A stall whose details were lost has its length, cause and process only.

        Example:
            >>> db.stalls()[["begin", "length_s", "cause", "file", "line"]]
        """
        return self._joined_stalls().copy()

    def _joined_stalls(self) -> pd.DataFrame:
        """Return the stalls, which must not be changed; they are joined again if some are new."""
        rows = self.rows(STALL, missing_ok=True)
        version, details = self.details_of_stalls() if len(rows) else (0, dict)
        if self._stalls is None or self._stalls[0] is not rows or self._stalls[1] != version:
            self._stalls = rows, version, stalls(rows, details())
        return self._stalls[2]

    def stall_lines(self) -> pd.DataFrame:
        """Summarize the stalls of event loops by their cause and their line.

        Returns:
            A DataFrame with a row for each cause and line, those with the most time first, and
            the columns

            - `cause`; `line`: `file:line` of the user's own code, "" if none was seen;
              `function`; `of_requests`: whether requests on threads were blocked, and not the event
              loop.
            - `count`, `total_s`, `longest_s`: how many stalls, and the sum of their lengths and
              the longest one in seconds.
            - `first`, `last`: the begin of the first and the end of the last one
              (datetime64[ns], UTC without a time zone).
            - `workers`: in how many processes.
            - `delayed`: how many requests of the same process were in progress while its event
              loop was blocked, each counted once; durations of blocks if no request was recorded.
              They are counted for the 100 lines with the most time, and 0 for the others.
            - `routes`: a dict of their labels, with the number of each, the largest first.
            - `handlers`, `blocks`: dicts of the labels of the requests whose handler blocked, and
              of the blocks that were open, with the number of stalls of each, the largest first.

        Example:
            >>> db.stall_lines()[["cause", "line", "count", "total_s"]].head()
        """
        found, basis = self._joined_stalls(), self.basis()
        known = self._lines
        if known is None or known[0] is not found or known[1]() is not basis:
            cells = basis.cells if len(found) else Cells(join([]))
            lines = stall_lines(found, cells, self.stalls_of_processes())
            self._lines = known = found, ref(basis), lines
        return known[2].copy()

    def stalls_of_processes(self) -> Mapping[Process, Stalls]:
        """Return when the event loop of each process was blocked; `numbers` are rows of `stalls`.

        Stalls of requests on threads are left out: other requests go on meanwhile.
        A forked child with several writers is one process, as in `basis`.
        """
        found = self._joined_stalls()
        return stalls_by_process(found, self.basis().names) if len(found) else {}
