"""The package's logger, which never raises into the code that logs.

A handler or filter is the application's: it may fail while its log server is down.
`logging` passes what it raises on to the caller, which would be the application's
request, or a thread of ours.
"""

from __future__ import annotations

import logging

log = logging.getLogger("aqltelemetry")
"""The package's logger; only `settings`, which imports no room, gets it by itself."""
_REPORTER = logging.NullHandler()


def guard_logger() -> None:
    """Report what handlers and filters raise on stderr, as `logging` does for its own."""
    if "handle" in vars(log):
        return
    handle = log.handle

    def guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception:  # noqa: BLE001 - whatever a handler may raise
            _REPORTER.handleError(record)

    log.handle = guarded  # type: ignore[method-assign]
