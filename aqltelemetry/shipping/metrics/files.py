"""Reads the files of a shipment as points, and keeps the totals in the notes of the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aqltelemetry.reading.csv_frames import read_rows
from aqltelemetry.reading.file_groups import GONE
from aqltelemetry.reading.rows import Rows
from aqltelemetry.shipping.destination import FileGone, Shipment, ShippedFile, note_key
from aqltelemetry.shipping.metrics.cumulative import Point, RecordingTotals, Steps
from aqltelemetry.sinks import file_names


class FilePoints(NamedTuple):
    """The points of a file.

    Attributes:
        file: The file.
        pid: The process that recorded it.
        writer: Its recording.
        start_ns: When the first file of the recording begins, in nanoseconds since the epoch.
        points: The points by label, each in order of time.
        known: All labels of the recording so far.
        rows: The observations.
    """

    file: ShippedFile
    pid: int
    writer: str
    start_ns: int
    points: Mapping[str, list[Point]]
    known: frozenset[str]
    rows: Rows


class ShipmentPoints:
    """Reads the files of a shipment, one after the other.

    Args:
        shipment: The files, in the order in which the recording wrote them.
        steps: How observations are added up.

    Attributes:
        refused: The files that can't be read, by name, and the reason of each.
        rows: How many observations were read.
    """

    def __init__(self, shipment: Shipment, steps: Steps) -> None:
        self._shipment = shipment
        self._steps = steps
        self._totals: dict[str, RecordingTotals] = {}
        self.refused: dict[str, str] = {}
        self.rows = 0

    def read(self) -> Iterator[FilePoints]:
        """Yield the points of each file; raises FileGone if one does not exist any more."""
        for file in self._shipment.files:
            name = file_names.parse(file.name)
            rows = None if name is None else self._rows(file)
            if name is None:
                self.refused[file.name] = "its name is not that of a published file"
            if name is None or rows is None:
                continue
            totals = self._of_recording(name)
            points = totals.add(rows, self._steps)
            self.rows += len(rows)
            known = frozenset(totals.labels)
            yield FilePoints(file, name.pid, name.writer, totals.start_ns, points, known, rows)

    def notes(self) -> Mapping[str, str]:
        """Return the totals after what was read, to be kept in the ledger.

        Those of recordings of the same prefix that ended long before are forgotten there. If such
        a recording goes on after all, its totals begin at 0 again, as after a restart.
        """
        return {key: totals.note() for key, totals in self._totals.items()}

    def _of_recording(self, name: file_names.FileName) -> RecordingTotals:
        key = note_key(self._shipment.prefix, name.writer)
        if key not in self._totals:
            note = self._shipment.notes.get(key)
            self._totals[key] = (
                RecordingTotals.from_note(note) if note else RecordingTotals(name.from_ns)
            )
        return self._totals[key]

    def _rows(self, file: ShippedFile) -> Rows | None:
        """Return the rows of a file; None if it is refused."""
        directory, name = os.path.split(file.path)

        def refuse(_name: str, reason: str) -> None:
            if reason == GONE:
                raise FileGone(file.name)
            self.refused[file.name] = reason

        rows = read_rows(directory, [name], leave_out=refuse)
        if not len(rows) and not os.path.exists(file.path):
            raise FileGone(file.name)
        return None if file.name in self.refused else rows
