"""Reads whole archives to where their rows belong in the order of labels and processes.

Tables are computed from rows in that order, see `summaries.cells`. Read in another one, all times
and values had to be copied, and memory that is touched for the first time is slow. So labels and
files are read first, which are small: they say how many rows come before those of a label and a
process. Then times and values are put to their places as they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import ArchiveError
from aqltelemetry.reading.archives.at_once import for_each
from aqltelemetry.reading.archives.rows import Keys, read_columns, read_keys
from aqltelemetry.reading.rows import Rows, recoded
from aqltelemetry.reading.summaries import groups

_Integers: TypeAlias = npt.NDArray[np.int64]


def read_placed(paths: Sequence[str], done: Callable[[], object]) -> Rows | None:
    """Return all rows of some archives, sorted by label and process; None if they are not to be.

    Those of a label and a process are in the order of the paths, and of the rows in each. They are
    not sorted without the extension that does it, nor if counting them takes too much memory.

    Args:
        paths: The archives.
        done: Called for each archive that was read.

    Raises:
        OSError: One of them can't be read, or is damaged.
        MissingExtraError: pyarrow is not installed.
    """
    if groups.compiled is None:
        return None
    keys, spans = _joined(list(for_each(read_keys, paths)))
    width = max(len(keys.processes), 1)
    cells = len(keys.labels) * width
    if cells * len(paths) > groups.MAX_COUNTED:
        return None
    counts = np.zeros((len(paths), cells), np.int64)
    for span, counted in zip(spans, counts, strict=True):
        codes = keys.label_codes[span], keys.process_codes[span]
        groups.compiled.count_cells(*codes, width, counted)
    totals = counts.sum(axis=0)
    begins = np.cumsum(totals) - totals + np.cumsum(counts, axis=0) - counts
    columns = np.empty(totals.sum(), np.int64), np.empty(totals.sum(), np.int64)
    places = _Places(keys, width, columns)
    for _ in for_each(places.fill, paths, spans, begins):
        done()
    return places.rows(totals)


def _joined(archives: Sequence[Sequence[Keys]]) -> tuple[Keys, Sequence[slice]]:
    """Return the keys of all rows, and which of them each archive has."""
    every = [keys for archive in archives for keys in archive]
    unordered = [False] * len(every)
    labels = recoded([(keys.label_codes, keys.labels) for keys in every], unordered)
    processes = recoded([(keys.process_codes, keys.processes) for keys in every], unordered)
    counts = [sum(len(keys.label_codes) for keys in archive) for archive in archives]
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    spans = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    return Keys(*labels, *processes), spans


class _Places(NamedTuple):
    """Times and values of rows with these keys, in the order of their labels and processes."""

    keys: Keys
    width: int
    columns: tuple[_Integers, _Integers]

    def fill(self, path: str, span: slice, begins: _Integers) -> None:
        """Put the rows of an archive to their places, of which those of each cell begin there."""
        label_codes, process_codes = self.keys.label_codes[span], self.keys.process_codes[span]
        ends = begins.copy(), begins.copy()
        last = 0
        for read in read_columns(path):
            first, last = last, last + len(read[0])
            if last > len(label_codes):
                break
            codes = label_codes[first:last], process_codes[first:last]
            for column, end, out in zip(read, ends, self.columns, strict=True):
                words = np.ascontiguousarray(column).view(np.int64)
                groups.compiled.arrange(*codes, self.width, end, words, out)
        if last != len(label_codes):
            raise ArchiveError(path, "its columns have different lengths")

    def rows(self, counts: _Integers) -> Rows:
        """Return all rows, of which each cell has so many."""
        labels, processes = np.divmod(np.arange(len(counts)), self.width)
        keys = self.keys
        return Rows(
            self.columns[0],
            self.columns[1].view(np.float64),
            np.repeat(labels.astype(keys.label_codes.dtype), counts),
            keys.labels,
            np.repeat(processes.astype(keys.process_codes.dtype), counts),
            keys.processes,
            is_joined=True,
        )
