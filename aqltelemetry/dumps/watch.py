"""Follows a recording, and makes a dump when a condition begins to hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from aqltelemetry.conditions import Condition
from aqltelemetry.dumps import kept
from aqltelemetry.dumps.making import Order, make
from aqltelemetry.dumps.triggers import WINDOW_S, Triggers
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.system.clock import NS_PER_S, epoch_ns
from aqltelemetry.views.live.player import Player
from aqltelemetry.views.live.sources import Running

INTERVAL_S = 1.0
"""The time between two calls of `Watch.step`, in seconds."""
APART_S = 60.0
"""The shortest time between two dumps that one condition asks for, in seconds."""
_APART_NS = int(APART_S * NS_PER_S)
_MAX_REASONS = 3


class Job(NamedTuple):
    """What to watch, and for what.

    Attributes:
        directory: The monitoring directory.
        conditions: When a dump is made.
        keep_bytes: The size of all dumps above which the oldest are removed.
        journal_dir: The option `journal_dir` of the recording.
    """

    directory: str
    conditions: Sequence[Condition]
    keep_bytes: int = kept.KEPT_BYTES
    journal_dir: str = "auto"


class Watch:
    """Watches a recording; `step` is called every `INTERVAL_S`.

    Args:
        job: What to watch.
        clock: Returns the present time, in nanoseconds since the epoch.
    """

    def __init__(self, job: Job, clock: Callable[[], int] = epoch_ns) -> None:
        self._job = job
        self._clock = clock
        now_ns = clock()
        # A process that watched before may have made a dump of what still holds.
        self._triggers = Triggers(
            job.conditions, skips_first=self._was_made_since(now_ns - _APART_NS)
        )
        self._controls = ControlFiles(job.directory)
        # A request to a process that has ended was for what is past.
        self._controls.take_dump_request()
        self._player = Player(Running([job.directory], now_ns, job.journal_dir), clock)
        self._made_ns: dict[Condition, int] = {}
        self.skipped = 0
        """How many dumps were not made, since the same condition had just asked for one."""

    def step(self) -> str | None:
        """Look at what is new; return the path of a dump if one was made.

        Raises OSError if the directory can't be read, or a dump can't be made.
        """
        self._player.step()
        now_ns = self._clock()
        fired = self._triggers.fired(self._player.snapshot(WINDOW_S, bins=1))
        reasons = [each.reason for each in fired if self._is_due(each.condition, now_ns)]
        if self._controls.take_dump_request():
            reasons.append("asked by SIGUSR2")
        if not reasons:
            self.skipped += bool(fired)
            return None
        self._made_ns.update((each.condition, now_ns) for each in fired)
        job = self._job
        order = Order(
            job.directory,
            "; ".join(reasons[:_MAX_REASONS]),
            at_ns=now_ns,
            journal_dir=job.journal_dir,
            most_bytes=job.keep_bytes,
        )
        path = make(order)
        kept.remove_oldest(job.directory, keep_bytes=job.keep_bytes)
        return path

    def _is_due(self, condition: Condition, now_ns: int) -> bool:
        made_ns = self._made_ns.get(condition)
        return made_ns is None or not 0 <= now_ns - made_ns < _APART_NS

    def _was_made_since(self, at_ns: int) -> bool:
        return any(each.at_ns >= at_ns for each in kept.find(self._job.directory))
