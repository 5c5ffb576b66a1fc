"""Observations of one file prefix as columns, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from aqltelemetry.views.live.buckets import Floats, Integers

Worker: TypeAlias = tuple[int, str]
"""A PID and a writer, which identify a recording."""


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
