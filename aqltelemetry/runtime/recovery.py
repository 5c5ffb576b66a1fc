"""Recovers what dead writers left in the journal: hands it to delivery, in small portions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from aqltelemetry.journal.dead_writers import DeadWriter, lock_dead_writers
from aqltelemetry.journal.inventory import take_inventory
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.observation import SegmentId
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.logs import log

_MAX_CLAIMED = 64
_PAUSE = 9
_WITNESS_NS = 5_000_000_000


class Recovery:
    """Claims dead writers below `roots`; all its methods run on one thread.

    About 64 segments are claimed at a time, and after those there is a pause of nine times
    as long as they took. So thousands of segments found at a start neither take much memory
    nor delay what is being recorded. `records` counts recovered records, `damaged` the
    segments set aside. `examine` gets each dead writer that has nothing left to publish and
    evidence of its death; it releases the writer, on any thread.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        hand_on: Callable[[SealedSegment], None],
        now_ns: Callable[[], int] = monotonic_ns,
        examine: Callable[[DeadWriter], None] = DeadWriter.finish,
    ) -> None:
        self.records = 0
        self.damaged = 0
        self._roots = roots
        self._hand_on = hand_on
        self._examine = examine
        self._now_ns = now_ns
        self._claims: dict[SealedSegment, DeadWriter] = {}
        self._claimed_ns = 0
        self._is_full = False
        self._resume_ns = 0
        self._logged: set[tuple[Path, int | None]] = set()
        self._is_last = False
        self._seen: set[SegmentId] = set()
        self._evidence_ns: dict[str, int] = {}

    def scan(self) -> None:
        """Claim dead writers and hand their segments on, except during a pause."""
        if self._now_ns() < self._resume_ns:
            return
        for root in self._roots:
            try:
                self._claim_below(root)
            except OSError as exc:
                if (root, exc.errno) not in self._logged:
                    self._logged.add((root, exc.errno))
                    log.warning("can't look for unpublished observations in %s: %s", root, exc)

    def scan_last(self) -> bool:
        """Claim dead writers at a stop, without pauses; return whether any segment is new.

        A segment that was claimed before is not new: it could not be published or removed.
        """
        self._is_last, self._resume_ns = True, 0
        self.scan()
        found = {sealed.id for sealed in self._claims}
        is_new = not found <= self._seen
        self._seen |= found
        return is_new

    def release(self, sealed: SealedSegment, records: int | None) -> None:
        """Remove a published segment, or set a damaged one aside."""
        dead = self._claims.pop(sealed, None)
        if dead is None:
            return
        self.records += records or 0
        if records is None or not sealed.is_whole:
            self.damaged += 1
            dead.set_aside(sealed)
        else:
            dead.discard(sealed)
        if not dead.segments and dead.has_evidence:
            self._conclude(dead)
        if not self._claims:
            now_ns = self._now_ns()
            if self._is_last:  # `scan_last` is called again
                return
            if self._is_full:
                self._resume_ns = now_ns + _PAUSE * (now_ns - self._claimed_ns)
            self.scan()

    def _conclude(self, dead: DeadWriter) -> None:
        """Have a writer examined; not at once, since its parent may still say how it ended."""
        now_ns = self._now_ns()
        first_ns = self._evidence_ns.setdefault(dead.path.name, now_ns)
        if dead.has_exit or self._is_last or now_ns - first_ns >= _WITNESS_NS:
            self._examine(dead)
        else:
            dead.close()

    def close(self) -> None:
        """Give up what is claimed, so that other processes can recover it."""
        for dead in set(self._claims.values()):
            dead.close()
        self._claims.clear()

    def _claim_below(self, root: Path) -> None:
        if len(self._claims) >= _MAX_CLAIMED:
            return
        for dead in lock_dead_writers(root):
            if not self._claims:
                self._claimed_ns, self._is_full = self._now_ns(), False
            if not dead.segments:
                self._conclude(dead)
                continue
            for sealed in dead.segments:
                self._claims[sealed] = dead
            for sealed in tuple(dead.segments):
                self._hand_on(sealed)
            if len(self._claims) >= _MAX_CLAIMED:
                self._is_full = True
                return


def warn_of_children(roots: Sequence[Path], proc: Path = Path("/proc")) -> None:
    """Log which children of this process still record, at its stop."""
    try:
        found = {each.pid for each in take_inventory(roots).writers if each.is_alive and each.pid}
    except OSError:
        return
    living = sorted(pid for pid in found if _parent(pid, proc) == os.getpid())
    if living:
        log.warning(
            "child processes still record: %s; this is published by their own recordings, "
            "or by the next one that is started in this directory after they have ended",
            ", ".join(map(str, living)),
        )


def _parent(pid: int, proc: Path) -> int | None:
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:  # it has ended, or is in another PID namespace
        return None
    # The command's name may contain anything; after it follow the state and the parent.
    return int(stat.rpartition(")")[2].split()[1])
