"""Describes the recordings in directories: their processes, times and states."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping

from aqltelemetry.observation import ACCOUNT, PID
from aqltelemetry.reading.archives.published import read_published
from aqltelemetry.reading.csv_frames import Wanted
from aqltelemetry.reading.rows import WRITER
from aqltelemetry.reading.sources import Sources
from aqltelemetry.sinks.account import END
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system.later import pd

RUNNING = "running"
STOPPED = "stopped"
KILLED = "killed"
UNKNOWN = "unknown"


class Writers:
    """Finds out the times and states of recordings; reads the last account of each, once."""

    def __init__(self) -> None:
        self._ends: dict[str, bool | None] = {}

    def describe(self, sources: Sources) -> pd.DataFrame:
        """Return a row for each recording; see `TelemetryDB.writers`."""
        spans: dict[tuple[int, str], list[int]] = defaultdict(list)
        last: dict[str, tuple[FileName, str]] = {}
        for path, name in sources.published():
            spans[name.pid, name.writer] += name.from_ns, name.to_ns
            if name.prefix == ACCOUNT and (
                name.writer not in last or last[name.writer][0].last < name.last
            ):
                last[name.writer] = name, path
        for segment, content in sources.segments.items():
            if content.span_ns is not None:
                spans[content.pid, segment.writer] += content.span_ns
        states = self._states(sources, {writer: path for writer, (_, path) in last.items()})
        keys = sorted(spans)
        return pd.DataFrame(
            {
                "begin": pd.to_datetime([min(spans[key]) for key in keys]),
                "end": pd.to_datetime([max(spans[key]) for key in keys]),
                "state": [states.get(writer, UNKNOWN) for _, writer in keys],
            },
            index=pd.MultiIndex.from_tuples(keys, names=[PID, WRITER]),
        )

    def _states(self, sources: Sources, accounts: Mapping[str, str]) -> Mapping[str, str]:
        """Return the states that are known; `accounts` are the paths of last accounts."""
        states = {segment.writer: KILLED for segment in sources.segments}
        states |= dict.fromkeys(sources.running, RUNNING)
        ends = {writer: self._end(path) for writer, path in accounts.items()}
        ends |= {
            segment.writer: content.is_end
            for segment, content in sources.segments.items()
            if content.is_end is not None
        }
        for writer, is_end in ends.items():
            if is_end is not None:
                states[writer] = STOPPED if is_end else KILLED
        return states

    def _end(self, path: str) -> bool | None:
        """Return what an account says: True for a stop in order, False for a kill, else None."""
        if path not in self._ends:
            directory, name = os.path.split(path)
            found = read_published(directory, [name], Wanted(labels={END}), _ignore).measurements
            self._ends[path] = bool(found.max()) if len(found) else None
        return self._ends[path]


def _ignore(_name: str, _reason: str) -> None:
    pass
