"""The package's logger, which never raises into the code that logs.

A handler or filter is the application's: it may fail while its log server is down.
`logging` passes what it raises on to the caller, which would be the application's
request, or a thread of ours.
"""

from __future__ import annotations

import logging

_REPORTER = logging.NullHandler()


def guard_logger() -> None:
    """Report what handlers and filters raise on stderr, as `logging` does for its own."""
    logger = logging.getLogger("aqltelemetry")
    if "handle" in vars(logger):
        return
    handle = logger.handle

    def guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception:  # noqa: BLE001 - whatever a handler may raise
            _REPORTER.handleError(record)

    logger.handle = guarded  # type: ignore[method-assign]
