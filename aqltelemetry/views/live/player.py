"""Plays a recording: the one that is made now, or one of the past, as it was at each moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aqltelemetry.observation import STALL
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.sources import Past, Running
from aqltelemetry.views.live.stalls import LatestStalls
from aqltelemetry.views.live.window import LiveWindow, Snapshot

LIVE, REPLAY, ENDED = "live", "replay", "ended"
"""The modes of a player; a replay is `ended` at the end of its recording."""


class Progress(NamedTuple):
    """Where a player is.

    Attributes:
        mode: `LIVE`, `REPLAY` or `ENDED`.
        is_paused: Whether its time stands still.
        now_ns: Its time, in nanoseconds since the epoch.
        speed: Seconds of the recording for each second.
        older_files: How many files are still to be read for the window of all.
        not_read: A line about files and journals that can't be read; "" if there are none.
    """

    mode: str
    is_paused: bool
    now_ns: int
    speed: float
    older_files: int = 0
    not_read: str = ""


class Player:
    """Moves through a recording and keeps the figures of a window that ends at its time.

    Args:
        source: What is recorded now, or a recording of the past.
        clock: Returns the present time, in nanoseconds since the epoch.
        begin_ns: Where in the past to begin; it is not needed for what is recorded now.
        speed: Seconds of the past for each second.
    """

    def __init__(
        self,
        source: Running | Past,
        clock: Callable[[], int],
        *,
        begin_ns: int | None = None,
        speed: float = 1.0,
    ) -> None:
        self._source = source
        self._clock = clock
        self._speed = speed
        self._is_paused = False
        self._from_ns = self._now_ns = clock() if begin_ns is None else begin_ns
        self._since_ns = clock()
        self._window = LiveWindow(self._now_ns)
        self._stalls = LatestStalls()
        self._end_ns: int | None = None
        if isinstance(source, Past):
            first_ns, last_ns = source.span_ns or (self._now_ns, self._now_ns)
            self._first_ns, self._end_ns = first_ns, last_ns + NS_PER_S
            self.seek_to(self._now_ns)

    def read_older(self) -> None:
        """Read older files too from now on, some at each step, for the window of all."""
        if isinstance(self._source, Running):
            self._source.reads_older = True

    def step(self) -> None:
        """Move to the present time, and read what is new; nothing while it is paused.

        Raises OSError if the directory can't be read.
        """
        if not self._is_paused:
            passed_ns = self._clock() - self._since_ns
            self._move_to(self._from_ns + round(passed_ns * self._speed))

    def _move_to(self, now_ns: int) -> None:
        self._now_ns = now_ns if self._end_ns is None else min(now_ns, self._end_ns)
        self._window.move_to(self._now_ns)
        for prefix, batch in self._source.read(self._now_ns):
            if prefix == STALL:
                self._stalls.add(batch)
            else:
                self._window.add(prefix, batch)

    def pause(self, *, is_paused: bool) -> None:
        """Stop, or go on: with the present if it is recorded now, else from where it stopped."""
        self._is_paused = is_paused
        if self._end_ns is not None:
            self._from_ns, self._since_ns = self._now_ns, self._clock()

    def seek(self, seconds: float) -> None:
        """Move a recording of the past by so many seconds; nothing for the present."""
        if self._end_ns is not None:
            self.seek_to(self._now_ns + round(seconds * NS_PER_S))

    def seek_to(self, at_ns: int) -> None:
        """Move a recording of the past to a time within it; nothing for the present."""
        if not isinstance(self._source, Past) or self._end_ns is None:
            return
        at_ns = max(min(at_ns, self._end_ns), self._first_ns)
        if at_ns < self._now_ns or not self._window.workers:
            self._window, self._stalls = LiveWindow(at_ns), LatestStalls()
            self._source.rewind()
        self._from_ns, self._since_ns = at_ns, self._clock()
        self._move_to(at_ns)

    @property
    def progress(self) -> Progress:
        """Where it is."""
        mode = LIVE
        if self._end_ns is not None:
            mode = ENDED if self._now_ns >= self._end_ns else REPLAY
        older = 0
        if isinstance(self._source, Running) and self._source.reads_older:
            older = self._source.older_files
        not_read = self._source.not_read
        return Progress(mode, self._is_paused, self._now_ns, self._speed, older, not_read)

    def snapshot(self, window_s: int | None, *, bins: int = 20) -> Snapshot:
        """Return the figures of a window that ends now; None for all until now."""
        states = self._source.states(self._window.workers, self._now_ns)
        requests = self._source.requests()
        found = self._window.snapshot(window_s, states, requests, bins=bins)
        if not len(self._stalls):
            return found
        known = self._source.details_of_stalls()
        return found._replace(stalls=self._stalls.rows(found.begin_ns, self._now_ns, known))
