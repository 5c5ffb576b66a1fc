"""The statistics that a monitor returns."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Stats(NamedTuple):
    """A monitor's account of its recording, at one moment.

    `recorded` counts the observations made since the start; each of them is
    published, in the journal or dropped: `recorded == published + in_journal +
    sum(dropped.values())`. The telemetry's own samples are observations too.
    """

    recorded: int = 0
    published: int = 0
    in_journal: int = 0
    dropped: Mapping[str, int] = MappingProxyType({})
    recovered: int = 0
    """Observations of dead processes that were published by this one."""
    journal_bytes: int = 0
    """Size of this process's journal segments."""
    is_crash_proof: bool = True
    """False where the journal is in memory: a killed process loses what is in it."""
    is_off: bool = False
    """Whether recording is switched off, by `aqltelemetry off`."""
    queue_depth: int = 0
    """Segments that wait for the sinks."""
    write_s: float = 0.0
    """Time that reading segments and writing to the sinks took, off the event loop."""
    sampler_errors: int = 0
    sink_errors: int = 0
    missed_ticks: int = 0
    """Samples that were left out because the event loop was late."""
    retention_errors: int = 0
    """Old files that could not be removed, and looks at the directory that failed."""
