"""Where the observations of a live view come from: running recordings, or one of the past."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from aqltelemetry.observation import ACCOUNT, DURATION, RUNTIME, STALL
from aqltelemetry.reading.csv_frames import Wanted
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.listing import summary
from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.stalls.details import StallDetails
from aqltelemetry.reading.writers import KILLED, RUNNING, STOPPED, UNKNOWN
from aqltelemetry.sinks.account import END
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.batch import Batch, Worker, joined
from aqltelemetry.views.live.latest import Requests
from aqltelemetry.views.live.new_rows import NewRows
from aqltelemetry.views.live.seconds import KEPT_S
from aqltelemetry.views.live.stalls import KnownDetails

_OLDER_FILES = 20


class Source(Protocol):
    """Where observations come from."""

    def read(self, until_ns: int) -> Iterable[tuple[str, Batch]]:
        """Return the prefix and the observations that are new, up to a time."""

    def states(self, workers: Collection[Worker], now_ns: int) -> Mapping[Worker, str]:
        """Return the states of workers at a time."""

    def requests(self) -> Mapping[str, Requests]:
        """Return what workers handle now, by their writers, where it can be read."""


class Running:
    """What is recorded now, and was recorded in the last minutes.

    Args:
        directories: The monitoring directories; they must exist.
        now_ns: The present time, in nanoseconds since the epoch.
        journal_dir: The option `journal_dir` of the recording, if it had one.

    Attributes:
        reads_older: Whether to read older files too, some each time.
    """

    def __init__(
        self, directories: Sequence[str], now_ns: int, journal_dir: str | None = None
    ) -> None:
        self.reads_older = False
        since_ns = now_ns - KEPT_S * NS_PER_S
        prefixes = (DURATION, RUNTIME, STALL, ACCOUNT)
        self._wanted = Wanted(since_ns=since_ns)
        self._details = StallDetails(directories)
        self._new = NewRows(directories, prefixes, since_ns=since_ns, journal_dir=journal_dir)
        self._ends: dict[str, str] = {}

    @property
    def older_files(self) -> int:
        """How many older files were not read yet."""
        return self._new.older

    @property
    def not_read(self) -> str:
        """A line about files and journals that can't be read; "" if there are none."""
        return summary([each for each in self._new.sources.not_read if each.is_lost])

    def read(self, until_ns: int) -> Iterator[tuple[str, Batch]]:
        """Yield what is new; `until_ns` is not needed. Raises OSError without the directory."""
        del until_ns
        new: dict[str, list[Batch]] = {DURATION: [], RUNTIME: [], STALL: []}
        for prefix, rows in self._rows():
            if prefix == ACCOUNT:
                self._note_ends(rows)
            else:
                new[prefix].append(_batch_of_rows(rows))
        for prefix, batches in new.items():
            if batches:
                yield prefix, joined(batches)

    def _rows(self) -> Iterator[tuple[str, Rows]]:
        yield from self._new.read()
        if self.reads_older:
            yield from self._new.read_older(_OLDER_FILES)

    def details_of_stalls(self) -> KnownDetails:
        """Return the details of the stalls of the last minutes; raises OSError as `read`."""
        self._details.refresh(self._wanted)
        return self._details.by_key()

    def _note_ends(self, rows: Rows) -> None:
        ends = rows.of_label(END)
        for process, value in zip(ends.process_codes, ends.measurements, strict=True):
            self._ends[rows.processes[process].writer] = STOPPED if value else KILLED

    def states(self, workers: Collection[Worker], now_ns: int) -> Mapping[Worker, str]:
        """Return the states of workers, by their accounts and the locks of their journals."""
        del now_ns
        sources = self._new.sources
        in_journal = {segment.writer for segment in sources.segments}
        return {worker: self._state(worker[1], sources.running, in_journal) for worker in workers}

    def requests(self) -> Mapping[str, Requests]:
        """Return what running workers handle now, by the slots in their journals."""
        return {
            writer: Requests(
                len(found.requests) + max(found.without_slot, 0),
                found.requests[0].begin_ns + found.alive_offset_ns if found.requests else None,
            )
            for writer, found in self._new.sources.requests().items()
        }

    def _state(self, writer: str, running: Collection[str], in_journal: Collection[str]) -> str:
        if writer in self._ends:
            return self._ends[writer]
        if writer in running:
            return RUNNING
        return KILLED if writer in in_journal else UNKNOWN


class Past:
    """A recording of the past, which is read from a time on.

    Args:
        db: The recording.
    """

    def __init__(self, db: TelemetryDB) -> None:
        shown = DURATION, RUNTIME, STALL
        by_prefix = {prefix: _batch_of_rows(db.rows(prefix)) for prefix in shown}
        self._details = db.details_of_stalls()[1]()
        self._batches = {
            prefix: batch.chosen(np.argsort(batch.times_ns, kind="stable"))
            for prefix, batch in by_prefix.items()
        }
        self._at_ns = 0
        self._not_read = summary([each for each in db.not_read() if each.is_lost])
        writers = db.writers()
        self._states = {
            (int(pid), str(writer)): (str(state), int(end.value))
            for (pid, writer), state, end in zip(
                writers.index, writers["state"], writers["end"], strict=True
            )
        }

    @property
    def not_read(self) -> str:
        """A line about files and journals that can't be read; "" if there are none."""
        return self._not_read

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """The first and the last time, in nanoseconds since the epoch; None if it is empty."""
        times = [batch.times_ns for batch in self._batches.values() if len(batch.times_ns)]
        if not times:
            return None
        return min(int(each[0]) for each in times), max(int(each[-1]) for each in times)

    def details_of_stalls(self) -> KnownDetails:
        """Return the details of all stalls."""
        return self._details

    def requests(self) -> Mapping[str, Requests]:
        """Return nothing: of the past, only samples are known."""
        return {}

    def rewind(self) -> None:
        """Read from the beginning again."""
        self._at_ns = 0

    def read(self, until_ns: int) -> Iterator[tuple[str, Batch]]:
        """Yield the observations since the last call that were made before `until_ns`."""
        begin_ns, self._at_ns = self._at_ns, max(until_ns, self._at_ns)
        for prefix, batch in self._batches.items():
            first, last = np.searchsorted(batch.times_ns, (begin_ns, self._at_ns)).tolist()
            if first < last:
                yield prefix, batch.chosen(slice(first, last))

    def states(self, workers: Collection[Worker], now_ns: int) -> Mapping[Worker, str]:
        """Return the states of workers at a time: those that end later are running."""
        known = {worker: self._states.get(worker, (UNKNOWN, 0)) for worker in workers}
        return {
            worker: RUNNING if now_ns < end_ns else state
            for worker, (state, end_ns) in known.items()
        }


def _batch_of_rows(rows: Rows) -> Batch:
    return Batch(
        rows.timepoints_ns,
        rows.measurements,
        rows.label_codes,
        rows.labels,
        rows.process_codes,
        rows.processes,
    )
