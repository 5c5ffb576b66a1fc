"""Decides whether a block or function has failed, and how its failure is labelled.

An `Exception` that ends a block or function is a failure. What derives from BaseException alone
is none, as for OpenTelemetry's spans and prometheus-client's counters: `asyncio.CancelledError`
and `GeneratorExit` end a block since nobody waits for its result any more, `KeyboardInterrupt`
and `SystemExit` since the program ends. Nor are the exceptions that say the same as a value would:
`StopIteration`, `StopAsyncIteration`, and the `CancelledError` of a cancelled thread pool's future.
"""

from __future__ import annotations

from concurrent.futures import CancelledError

from aqltelemetry.observation import failed_label

_NO_FAILURES = (StopIteration, StopAsyncIteration, CancelledError)


def failure_label(label: object, exc_type: object) -> object | None:
    """Return the label of a failure; None if the exception, by its type, is none. Never raises.

    A label whose own methods raise is returned as it is, so that it is counted as dropped.
    """
    # By the type itself: an object in its place may pretend to be a class.
    if not issubclass(type(exc_type), type) or not issubclass(exc_type, Exception):  # type: ignore[arg-type]
        return None
    if issubclass(exc_type, _NO_FAILURES):  # type: ignore[arg-type]
        return None
    try:
        return failed_label(label)
    except Exception:  # noqa: BLE001 - the label's own method raised
        return label
