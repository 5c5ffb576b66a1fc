"""The package's logger, which never raises into the code that logs.

Handlers and filters belong to the application and may fail, for example while its log
server is down. `logging` passes their exceptions on to the code that logs: a request of the
application, or a thread of the recording.
"""

from __future__ import annotations

import logging

log = logging.getLogger("aqltelemetry")
"""The package's logger; only `settings`, which imports no room, gets it by itself."""
_REPORTER = logging.NullHandler()


def guard_logger() -> None:
    """Print the exceptions of handlers and filters on stderr, as `logging` does with its own."""
    if "handle" in vars(log):
        return
    handle = log.handle

    def guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception:  # noqa: BLE001 - a handler may raise anything
            _REPORTER.handleError(record)

    log.handle = guarded  # type: ignore[method-assign]
