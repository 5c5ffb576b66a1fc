"""The built-in sinks of a recording.

To add one: write `sinks/<name>.py` with a class like `csv_file.CsvSink`, and list it below.
`aqltelemetry.protocols.Sink` describes the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

from aqltelemetry.protocols import Sink
from aqltelemetry.settings import Settings
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.retention import Retention


def built_in_sinks(settings: Settings, executor: Executor, retention: Retention) -> Iterator[Sink]:
    """Yield the built-in sinks that the settings ask for.

    Formatting and file operations run on `executor`. `retention` is notified of each file.
    """
    yield CsvSink(settings.directory, executor, retention, with_fsync=settings.with_fsync)
