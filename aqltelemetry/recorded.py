"""Counts what was published, by the bytes of the files alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from aqltelemetry import filenames
from aqltelemetry.observation import ACCOUNT, RUNTIME

_DROPPED = b",telemetry dropped "


@dataclass
class Recorded:
    """What published files hold: rows by file prefix, the processes, what they dropped."""

    files: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    processes: set[tuple[int, str]] = field(default_factory=set)
    """By PID and writer."""
    dropped: int = 0
    """Observations that were not kept, by the last samples."""


def names(directory: str) -> list[str]:
    """Return the names of the published files; none where there is no directory."""
    try:
        found = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in found if filenames.parse(name) is not None)


def count(directory: str, wanted: Collection[str]) -> Recorded:
    """Count what files of these names hold; those that vanish in the meantime don't count."""
    recorded = Recorded()
    drops: dict[tuple[str, bytes], tuple[int, int]] = {}
    for name in wanted:
        parsed = filenames.parse(name)
        if parsed is None or parsed.prefix == ACCOUNT:
            continue
        try:
            with open(os.path.join(directory, name), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            continue
        recorded.files += 1
        recorded.rows[parsed.prefix] += data.count(b"\n") - 1
        recorded.processes.add((parsed.pid, parsed.writer))
        if parsed.prefix == RUNTIME and _DROPPED in data:
            _note_drops(parsed.writer, data, drops)
    recorded.dropped = sum(total for _, total in drops.values())
    return recorded


def _note_drops(writer: str, data: bytes, drops: dict[tuple[str, bytes], tuple[int, int]]) -> None:
    for line in data.splitlines():
        if _DROPPED in line:
            timepoint, total, label, *_ = line.split(b",")
            # They are totals: the last one counts.
            latest = max(drops.get((writer, label), (0, 0)), (int(timepoint), int(float(total))))
            drops[writer, label] = latest
