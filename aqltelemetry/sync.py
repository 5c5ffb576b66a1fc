"""Record a program that has no event loop: the recording runs on a thread of its own.

    from aqltelemetry import sync

    sync.start("_monitoring")
    ...
    sync.stop()

`time_block`, `time_it` and `record` are those of `aqltelemetry`: they record on any
thread, whichever way the recording was started.
"""

from __future__ import annotations

from aqltelemetry.recording.recorder import record, time_block
from aqltelemetry.recording.timed_functions import time_it
from aqltelemetry.runtime.background import (
    flush,
    start,
    start_duration_sample,
    stats,
    stop,
    stop_duration_sample,
)

__all__ = (
    "flush",
    "record",
    "start",
    "start_duration_sample",
    "stats",
    "stop",
    "stop_duration_sample",
    "time_block",
    "time_it",
)
