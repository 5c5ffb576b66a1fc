"""What a session is put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.journal.sealed import seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.protocols import Sampler, Sink
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system.threads import WorkerThread


class Place:
    """Where a session records to: its writer, and how others are made."""

    def __init__(self, new_writer: Callable[[], Writer]) -> None:
        self.new_writer = new_writer
        self.writer = new_writer()
        try:
            self._first = [self.writer.new_segment()]
        except BaseException:
            self.writer.close()
            raise

    def take_first(self) -> Segment:
        """Return the writer's first segment, and forget it; once.

        It refers to the one after it, and that to the next: kept, it would keep all.
        """
        return self._first.pop()

    def close(self) -> None:
        """Let go of the journal; a segment that nobody took is removed."""
        while self._first:
            seal(self._first.pop()).discard()
        self.writer.close()


class Parts(NamedTuple):
    """What a session is put together from; its times are in seconds."""

    place: Place
    journal_roots: Sequence[Path]
    controls: ControlFiles
    journal_thread: WorkerThread
    sink_thread: WorkerThread
    samplers: Sequence[Sampler]
    sinks: Sequence[Sink]
    retention: Retention
    interval_s: float
    flush_interval_s: float
    max_age_s: float
    journal_bytes: int

    def discard(self) -> None:
        """Give up what was made, for a session that there won't be."""
        self.sink_thread.shutdown(wait=False)
        self.place.close()
