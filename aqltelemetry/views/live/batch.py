"""Observations of one file prefix as columns, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from aqltelemetry.views.live.buckets import Floats, Integers

Worker: TypeAlias = tuple[int, str]
"""A PID and a writer, which identify a recording."""


_Name = TypeVar("_Name")


class Batch(NamedTuple):
    """n observations of a file prefix, in any order.

    Attributes:
        times_ns: The timepoints, in nanoseconds since the epoch: n integers.
        values: The measurements: n floats.
        label_codes: For each, an index into `labels`.
        labels: Labels, each once.
        worker_codes: For each, an index into `workers`.
        workers: Recordings, each once.
    """

    times_ns: Integers
    values: Floats
    label_codes: Integers
    labels: Sequence[str]
    worker_codes: Integers
    workers: Sequence[Worker]

    def chosen(self, rows: Integers | slice) -> Batch:
        """Return some of the observations, in this order."""
        return self._replace(
            times_ns=self.times_ns[rows],
            values=self.values[rows],
            label_codes=self.label_codes[rows],
            worker_codes=self.worker_codes[rows],
        )


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the observations of several batches, at least one, as one."""
    if len(batches) == 1:
        return batches[0]
    labels: dict[str, int] = {}
    workers: dict[Worker, int] = {}
    label_codes = [_renumbered(each.label_codes, each.labels, labels) for each in batches]
    worker_codes = [_renumbered(each.worker_codes, each.workers, workers) for each in batches]
    return Batch(
        np.concatenate([each.times_ns for each in batches]),
        np.concatenate([each.values for each in batches]),
        np.concatenate(label_codes),
        [*labels],
        np.concatenate(worker_codes),
        [*workers],
    )


def _renumbered(codes: Integers, names: Sequence[_Name], numbers: dict[_Name, int]) -> Integers:
    """Return codes as numbers in `numbers`, to which new names are added."""
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)[codes]
