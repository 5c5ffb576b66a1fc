"""What several tables of a recording are computed from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from aqltelemetry.reading.rows import Rows, with_shared_processes
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.reading.summaries.drops import recordings
from aqltelemetry.reading.summaries.recorded_time import Span, spans


class Basis:
    """The loaded observations, and what several tables need of them, each computed once.

    Args:
        durations: The observations of the prefix `duration`.
        runtime: The observations of the prefix `runtime`.
        accounts: The accounts.

    Attributes:
        loaded: The arguments.
        durations: The durations; a forked child with several writers is one process.
        runtime: The samples, with the same `processes`.
        names: The writers of forked children that are replaced, by the one that replaces them.
    """

    def __init__(self, durations: Rows, runtime: Rows, accounts: Rows) -> None:
        self.loaded = durations, runtime, accounts
        self.names: Mapping[str, str] = recordings(accounts)
        self.durations, self.runtime = with_shared_processes([durations, runtime], self.names)

    @property
    def accounts(self) -> Rows:
        """The accounts."""
        return self.loaded[2]

    @cached_property
    def cells(self) -> Cells:
        """The durations by label and process."""
        return Cells(self.durations)

    @cached_property
    def spans(self) -> Mapping[int, Span]:
        """The span that each process recorded, by its index in `processes`."""
        return spans(self.durations, self.runtime)
