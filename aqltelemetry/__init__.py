"""An always-on flight recorder for Python services.

    from aqltelemetry import monitor, time_block

    async with monitor:
        with time_block("checkout"):
            ...

Each duration, garbage collection pause, CPU time and event loop lag of each process becomes
a time series in CSV files. `monitor` and `Monitor` start and stop the recording;
`time_block`, `time_it` and `record` make observations; `TelemetryDB`, which needs pandas,
reads the files. `aqltelemetry.sync` is for programs without an event loop, and
`aqltelemetry.aiohttp`, `asgi`, `wsgi` and `gunicorn` record the requests of a service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aqltelemetry.recording.recorder import record, time_block
from aqltelemetry.recording.timed_functions import time_it
from aqltelemetry.runtime import child_processes as _children  # noqa: F401 - it registers itself
from aqltelemetry.runtime.monitor import Monitor, monitor
from aqltelemetry.system.logs import guard_logger

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB

guard_logger()

__all__ = ("Monitor", "TelemetryDB", "monitor", "record", "time_block", "time_it")


def __getattr__(name: str) -> Any:
    if name == "TelemetryDB":
        try:
            from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - needs pandas
        except ImportError as exc:
            msg = f"{exc}; TelemetryDB comes with the extra aqltelemetry[pandas]"
            raise ImportError(msg) from exc
        return TelemetryDB
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - rarely asked for

        return version("aqltelemetry")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
