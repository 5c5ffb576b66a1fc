"""Counts what is dropped, where a kill can't undo it: in the current segment's counters."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from aqltelemetry.journal.counters import DROP_COUNTERS
from aqltelemetry.journal.segment import AtomicCounter, Segment
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.logs import log

_MAX_CHARS = 200


class Drops:
    """The drops of one recording, by reason; counted on any thread, without a lock."""

    def __init__(self) -> None:
        self._counters: dict[str, AtomicCounter] = {}
        self._last_ns: dict[str, int] = {}
        self._causes: dict[str, str] = {}
        self._logged: set[str] = set()

    @property
    def totals(self) -> Mapping[str, int]:
        """How many observations were dropped since the start, by reason."""
        return {reason: counter.value for reason, counter in list(self._counters.items())}

    def count(self, reason: str) -> int:
        """Count one, dropped now; return the number of it, from 1."""
        self._last_ns[reason] = monotonic_ns()
        return self._counters.setdefault(reason, AtomicCounter()).step() + 1

    def note(self, reason: str, key: object, cause: object) -> None:
        """Remember the first observation that was dropped for a reason; never raises.

        `key` names its series; `cause` is a text, or an exception.
        """
        if reason in self._causes:
            return
        try:
            prefix, label = key[:2] if isinstance(key, tuple) else ("duration", key)
            self._causes[reason] = (
                f"{prefix!s:.50} {label!r:.{_MAX_CHARS}}: {cause!s:.{_MAX_CHARS}}"
            )
        except Exception as exc:  # noqa: BLE001 - a label's or exception's own method raised
            self._causes[reason] = f"a series without a printable name ({type(exc).__name__})"

    def log(self) -> None:
        """Log each noted reason that was not logged before."""
        for reason, cause in list(self._causes.items()):
            if reason not in self._logged:
                self._logged.add(reason)
                log.warning(
                    "an observation was dropped (%s): %s; later ones are counted only, as "
                    "`telemetry dropped %s`",
                    *(reason, cause, reason),
                )

    def keep(self, reason: str, total: int, segment: Segment) -> None:
        """Have a segment tell of a total; never raises."""
        with suppress(Exception):
            segment.store_counter(DROP_COUNTERS[reason], total, self._last_ns[reason])

    def carry(self, segment: Segment) -> None:
        """Have another segment tell of all so far."""
        for reason, total in self.totals.items():
            self.keep(reason, total, segment)
