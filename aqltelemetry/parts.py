"""What a session is put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.control import Controls
from aqltelemetry.journal.sealed import seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.protocols import Sampler, Sink
from aqltelemetry.threads import WorkerThread


class Place(NamedTuple):
    """Where a session records to: its writer, with a first segment, and how others are made."""

    new_writer: Callable[[], Writer]
    writer: Writer
    first: Segment


class Parts(NamedTuple):
    """What a session is put together from; its times are in seconds."""

    place: Place
    journal_roots: Sequence[Path]
    controls: Controls
    keeper_thread: WorkerThread
    sink_thread: WorkerThread
    samplers: Sequence[Sampler]
    sinks: Sequence[Sink]
    interval_s: float
    flush_interval_s: float
    max_age_s: float
    journal_bytes: int

    def discard(self) -> None:
        """Give up what was made, for a session that there won't be."""
        self.sink_thread.shutdown(wait=False)
        seal(self.place.first).discard()
        self.place.writer.close()
