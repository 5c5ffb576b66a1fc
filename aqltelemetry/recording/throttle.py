"""Short waits of a recording thread, which let the other threads of aqltelemetry run.

An event loop whose turns only compute releases the interpreter lock for a microsecond in each
turn. A thread that waits for the lock is woken, comes too late, and waits again for the 5 ms
after which it may request the lock. So one turn of that thread may take seconds to come, and
making a segment takes tens of turns. A sleep of 50 microseconds gives it a turn at once.
"""

from __future__ import annotations

from collections.abc import Callable

from aqltelemetry.journal.segment import Segment
from aqltelemetry.system.clock import yield_gil

_LABELS_PER_WAIT = 32
_MAX_LABEL_WAITS = 32
_MAX_WAITS = 512
_FIRST_RECORDS = 4096
_RECORDS_PER_WAIT = 256


class Throttle:
    """Makes recording threads wait while the threads that provide segments are late.

    The number of waits is limited: where they lead nowhere, as with a disk that hangs, they
    stop until `reset`.
    """

    def __init__(self, is_behind: Callable[[], bool]) -> None:
        self._is_behind = is_behind
        self._waits = iter(range(_MAX_WAITS))
        self._labels = iter(range(_MAX_LABEL_WAITS * _LABELS_PER_WAIT))

    def __call__(self, segment: Segment) -> None:
        """Wait for a moment if the next segment or the writing of earlier ones is late."""
        # A new segment lasts for a while, and a process's first one has no successor yet.
        is_late = segment.successor is None and segment.taken >= _FIRST_RECORDS
        if not is_late and not self._is_behind():
            return
        if next(self._waits, None) is not None:
            yield_gil()
            segment.stop_after(_RECORDS_PER_WAIT)

    def for_new_label(self) -> None:
        """Wait for a moment at every 32nd new label, and at most 32 times in a process's life.

        Thousands of new labels within a few milliseconds would fill all spare segments before
        the label table is made.
        """
        number = next(self._labels, None)
        if number is not None and number % _LABELS_PER_WAIT == 0:
            yield_gil()

    def reset(self) -> None:
        """Allow as many waits as at the start, since some progress was made."""
        self._waits = iter(range(_MAX_WAITS))
