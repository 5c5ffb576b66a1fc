"""Keeps the published files of a directory within bounds of size and age.

This is a job of its own, on a thread of its own: publication neither waits for it nor
fails by it. Each file is tried, and each failure counted, and logged once per reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import read_accepted
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import (
    Removals,
    is_removals,
    load,
    read_removals,
)
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, AgeClock, breathe, epoch_ns, utc
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import NativeFuture, start_thread

_AT_EXIT = "at interpreter shutdown"
_SWEEP_NS = 60 * NS_PER_S
# Far longer than any file is being written; its writer, should it live, starts anew.
_STALE_TMP_NS = 600 * NS_PER_S
_BREATH_FILES = 64


class _Published(NamedTuple):
    to_ns: int
    size_bytes: int
    path: str
    name: FileName


def _on_a_thread(job: Callable[[], None]) -> None:
    start_thread(job, "aqltelemetry-retention")


class Retention:
    """Removes the oldest published files of any process, once there is too much.

    Only files whose names are ours are counted or removed, and temporary files
    that a killed process left. `removed` counts the published ones, `errors` how often
    something could not be removed, read or published. Files that can't be removed, such
    as those of another user in a sticky directory, do not count among `keep_bytes`
    once they are the oldest. `start` runs a sweep, by default on a new thread.
    """

    def __init__(
        self,
        directory: str,
        keep_bytes: int,
        keep_s: float,
        now_ns: Callable[[], int] = epoch_ns,
        start: Callable[[Callable[[], None]], None] = _on_a_thread,
    ) -> None:
        self.removed = 0
        self.errors = 0
        self.sweeping: Future[None] | None = None
        """Done when the sweep that began last has ended; None before the first."""
        self._directory = directory
        self._keep_bytes = keep_bytes
        self._keep_ns = int(keep_s * NS_PER_S)
        self._now_ns = now_ns
        self._start = start
        self._age_now_ns = AgeClock(now_ns)
        self._is_stepped = False
        # One is changed by who publishes alone, the other by the sweep alone.
        self._added_bytes = 0
        self._swept_bytes = 0
        self._swept_ns: int | None = None
        self._removals = Removals(directory)
        self._logged: set[int | None] = set()
        self._stuck: set[str] = set()

    def added(self, size_bytes: int) -> None:
        """Note that so much was published; sweep if that may be too much, or once a minute.

        Never raises, and does not wait for the sweep.
        """
        self._added_bytes += size_bytes
        if self.sweeping is not None and not self.sweeping.done():
            return
        now_ns = self._now_ns()
        is_due = self._swept_ns is None or not 0 <= now_ns - self._swept_ns < _SWEEP_NS
        if is_due or self._added_bytes + self._swept_bytes > self._keep_bytes:
            self._swept_ns = now_ns
            # The scan sees what was added so far; what is added meanwhile may count twice.
            self._added_bytes = 0
            self._begin()

    def _begin(self) -> None:
        done = self.sweeping = NativeFuture[None]()
        done.set_running_or_notify_cancel()  # who gives up waiting does not end it

        def job() -> None:
            try:
                self.sweep()
            except Exception as exc:  # noqa: BLE001 - whatever it is, a later sweep may do better
                self._complain("look through the published files", exc)
            finally:
                done.set_result(None)

        try:
            self._start(job)
        except Exception as exc:  # noqa: BLE001 - no more threads, or none of ours
            if _AT_EXIT not in str(exc):  # from Python 3.12 on; the next process removes them
                self._complain("begin to remove old files", exc)
            done.set_result(None)

    def sweep(self) -> None:
        """Remove what is too old, and the oldest of what is too much.

        Raises OSError where the directory can't be read.
        """
        now_ns = self._now_ns()
        oldest_ns = self._ages_now_ns(now_ns) - self._keep_ns
        files = sorted(self._scan(now_ns))
        total = sum(file.size_bytes for file in files)
        chosen = []
        for file in files:
            if total <= self._keep_bytes and file.to_ns >= oldest_ns:
                break
            if not self._removals.is_mine(file.path):
                chosen.append(file)
                total -= file.size_bytes
        self._swept_bytes = total
        self._stuck.intersection_update(file.path for file in chosen)
        if chosen:
            self._removals.forget({file.name.writer for file in files}, now_ns)
            self._remove(chosen, now_ns)

    def _ages_now_ns(self, now_ns: int) -> int:
        age_now_ns = self._age_now_ns()
        if age_now_ns < now_ns and not self._is_stepped:
            self._is_stepped = True
            log.warning(
                "the clock went on to %s, since it was set or the machine slept: until this "
                "process ends, its files' ages do not include that",
                utc(now_ns),
            )
        return age_now_ns

    def _remove(self, files: Sequence[_Published], now_ns: int) -> None:
        """Remove files, of which an account is published before, or else after."""
        amounts = {file.path: self._take_note(file) for file in files}
        planned = [
            (file.name, amounts[file.path])
            for file in files
            if file.path not in self._stuck and not is_removals(file.name)
        ]
        takes_over = any(is_removals(file.name) for file in files)
        is_told = not (planned or takes_over) or self._publish(planned, now_ns)
        for file in files:
            was_planned = file.path not in self._stuck
            if is_removals(file.name):
                # What it says is published now, by this process; else it stays.
                self.removed += is_told and self._is_removed(file)
            elif self._is_removed(file):
                self.removed += 1
                self._removals.add(file.name, amounts[file.path])
                is_told = is_told and was_planned
            else:
                is_told = is_told and not was_planned
        if not is_told:
            self._publish((), now_ns)

    def _take_note(self, file: _Published) -> int:
        """Return what is to be told of a file; take over what it tells of others itself."""
        if file.name.prefix != ACCOUNT:
            return 1
        data = load(file.path)
        if is_removals(file.name):
            self._removals.absorb(read_removals(data))
        return read_accepted(data)

    def _publish(self, planned: Sequence[tuple[FileName, int]], now_ns: int) -> bool:
        try:
            self._removals.publish(planned, self.removed, now_ns)
        except OSError as exc:
            self._complain("account for the files that are removed", exc)
            return False
        return True

    def _is_removed(self, file: _Published) -> bool:
        try:
            syscalls.unlink(file.path)
        except FileNotFoundError:
            # Somebody else, a reader or a sibling process, was faster.
            return False
        except OSError as exc:
            if file.path not in self._stuck:
                self._stuck.add(file.path)
                self._complain("remove old files", exc)
            return False
        self._stuck.discard(file.path)
        return True

    def _complain(self, what: str, exc: Exception) -> None:
        self.errors += 1
        number = exc.errno if isinstance(exc, OSError) else None
        if number not in self._logged:
            self._logged.add(number)
            log.warning("can't %s: %s; the rest is done, and this is tried again", what, exc)

    def _scan(self, now_ns: int) -> list[_Published]:
        found = []
        with syscalls.scan_directory(self._directory) as entries:
            for index, entry in enumerate(entries):
                if index % _BREATH_FILES == 0:
                    breathe()
                try:
                    if entry.name.endswith(file_names.TMP_SUFFIX):
                        self._remove_stale(entry, now_ns)
                    elif (name := file_names.parse(entry.name)) is not None:
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append(_Published(name.to_ns, size, entry.path, name))
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    self._complain("remove what a killed process left", exc)
        return found

    @staticmethod
    def _remove_stale(entry: os.DirEntry[str], now_ns: int) -> None:
        ours = file_names.is_temporary(entry.name)
        if ours and entry.stat(follow_symlinks=False).st_mtime_ns < now_ns - _STALE_TMP_NS:
            syscalls.unlink(entry.path)
