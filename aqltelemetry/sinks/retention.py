"""Removes old published files, to keep a directory within limits of size and age.

Retention runs on its own thread: publication neither waits for it nor fails because of it.
Each failure is counted, and logged once per error number; the other files are removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT
from aqltelemetry.sinks import archives, autopsies, file_names, stall_details
from aqltelemetry.sinks.account import read_accepted
from aqltelemetry.sinks.archives import read_members, read_writers
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import (
    Removals,
    is_removals,
    load,
    read_removals,
)
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, AgeClock, epoch_ns, utc, yield_gil
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import NativeFuture, start_thread

_AT_EXIT = "at interpreter shutdown"
_SWEEP_NS = 60 * NS_PER_S
# Much longer than a file is being written; a writer that is alive would write it again.
_STALE_TMP_NS = 600 * NS_PER_S
_BREATH_FILES = 64
_WITHOUT_ACCOUNT = (stall_details.PREFIX, autopsies.PREFIX)
"""The prefixes of files that hold no observations."""


class _Published(NamedTuple):
    """A published file, or an archive, whose `name` is that of its prefix and times only."""

    to_ns: int
    size_bytes: int
    path: str
    name: FileName
    is_archive: bool = False


def _parse(name: str) -> FileName | None:
    return file_names.parse(name) or stall_details.parse(name) or autopsies.parse(name)


def _on_a_thread(job: Callable[[], None]) -> None:
    start_thread(job, "aqltelemetry-retention")


class Retention:
    """Removes the oldest published files of all processes, above a total size or age.

    Removes only published files and archives of them, by their names, and temporary files of
    killed processes. An archive is as old as the newest of its files, and is removed as a whole.
    Of one in another directory the link is removed.

    `keep_bytes` limits the total size and `keep_s` the age of published files. Files that
    can't be removed, such as those of another user in a sticky directory, do not count
    once they are the oldest. `now_ns` returns the time in nanoseconds since the epoch;
    `start` runs a job, by default on a new thread.

    `removed` counts removed published files, `errors` failures to remove, read or publish.
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
        """Done when the last started sweep has ended; None before the first one."""
        self._directory = directory
        self._keep_bytes = keep_bytes
        self._keep_ns = int(keep_s * NS_PER_S)
        self._now_ns = now_ns
        self._start = start
        self._age_now_ns = AgeClock(now_ns)
        self._is_stepped = False
        # The publishing thread alone changes the first, a sweep alone the second.
        self._added_bytes = 0
        self._swept_bytes = 0
        self._swept_ns: int | None = None
        self._removals = Removals(directory)
        self._archived: dict[str, set[str]] = {}
        self._logged: set[int | None] = set()
        self._stuck: set[str] = set()

    def added(self, size_bytes: int) -> None:
        """Note that `size_bytes` were published; start a sweep if needed, or once a minute.

        Does not raise, and does not wait for the sweep.
        """
        self._added_bytes += size_bytes
        if self.sweeping is not None and not self.sweeping.done():
            return
        now_ns = self._now_ns()
        is_due = self._swept_ns is None or not 0 <= now_ns - self._swept_ns < _SWEEP_NS
        if is_due or self._added_bytes + self._swept_bytes > self._keep_bytes:
            self._swept_ns = now_ns
            # The sweep sees all files so far; files added during it may count twice.
            self._added_bytes = 0
            self._begin()

    def _begin(self) -> None:
        done = self.sweeping = NativeFuture[None]()
        done.set_running_or_notify_cancel()  # so that a cancelled waiter does not cancel it

        def job() -> None:
            try:
                self.sweep()
            except Exception as exc:  # noqa: BLE001 - a later sweep may succeed
                self._log_failure("search the published files", exc)
            finally:
                done.set_result(None)

        try:
            self._start(job)
        except Exception as exc:  # noqa: BLE001 - no thread can be started
            if _AT_EXIT not in str(exc):  # Python 3.12 and later; the next process removes them
                self._log_failure("start to remove old files", exc)
            done.set_result(None)

    def sweep(self) -> None:
        """Remove files that are too old, and the oldest ones above the total size.

        Raises OSError if the directory can't be read.
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
        accounted = [file for file in chosen if file.name.prefix not in _WITHOUT_ACCOUNT]
        for file in chosen:
            if file.name.prefix in _WITHOUT_ACCOUNT:
                self._unlink(file)
        if accounted:
            self._removals.forget(self._writers(files), now_ns)
            self._remove(accounted, now_ns)

    def _writers(self, files: Iterable[_Published]) -> set[str]:
        """Return the writers that have files, of which some may be in archives."""
        known, self._archived = self._archived, {}
        for file in files:
            if file.is_archive:
                writers = known.get(file.path)
                if writers is None:
                    with suppress(OSError):
                        writers = {name.writer for name in read_writers(file.path)}
                self._archived[file.path] = writers or set()
        plain = {file.name.writer for file in files if not file.is_archive}
        return plain.union(*self._archived.values())

    def _ages_now_ns(self, now_ns: int) -> int:
        age_now_ns = self._age_now_ns()
        if age_now_ns < now_ns and not self._is_stepped:
            self._is_stepped = True
            log.warning(
                "the clock jumped forward to %s, because it was set or the machine was suspended: "
                "the ages of files do not include this step until this process ends",
                utc(now_ns),
            )
        return age_now_ns

    def _remove(self, files: Sequence[_Published], now_ns: int) -> None:
        """Remove files; the account of them is published before, or again after if that failed."""
        amounts = {file.path: self._amounts(file) for file in files}
        planned = [
            amount
            for file in files
            if file.path not in self._stuck and not is_removals(file.name)
            for amount in amounts[file.path]
        ]
        has_removals = any(is_removals(file.name) for file in files)
        is_published = not (planned or has_removals) or self._publish(planned, now_ns)
        for file in files:
            was_planned = file.path not in self._stuck
            if is_removals(file.name):
                # Kept unless this process has published its content.
                self.removed += is_published and self._unlink(file)
            elif self._unlink(file):
                self.removed += len(amounts[file.path])
                for name, amount in amounts[file.path]:
                    self._removals.add(name, amount)
                is_published = is_published and was_planned
            else:
                is_published = is_published and not was_planned
        if not is_published:
            self._publish((), now_ns)

    def _amounts(self, file: _Published) -> Sequence[tuple[FileName, int]]:
        """Return the amount for `Removed` of a file, or of each in an archive.

        Absorb the content of a removals account.
        """
        if file.is_archive:
            try:
                return [(member.name, member.amount) for member in read_members(file.path)]
            except OSError as exc:
                self._log_failure("read the list of files in an archive", exc)
                return ()
        if file.name.prefix != ACCOUNT:
            return [(file.name, 1)]
        data = load(file.path)
        if is_removals(file.name):
            self._removals.absorb(read_removals(data))
        return [(file.name, read_accepted(data))]

    def _publish(self, planned: Sequence[tuple[FileName, int]], now_ns: int) -> bool:
        try:
            self._removals.publish(planned, self.removed, now_ns)
        except OSError as exc:
            self._log_failure("publish the account of removed files", exc)
            return False
        return True

    def _unlink(self, file: _Published) -> bool:
        """Remove a file; return whether this process removed it."""
        try:
            syscalls.unlink(file.path)
        except FileNotFoundError:
            # A reader or another process removed it.
            return False
        except OSError as exc:
            if file.path not in self._stuck:
                self._stuck.add(file.path)
                self._log_failure("remove old files", exc)
            return False
        self._stuck.discard(file.path)
        return True

    def _log_failure(self, what: str, exc: Exception) -> None:
        self.errors += 1
        number = exc.errno if isinstance(exc, OSError) else None
        if number not in self._logged:
            self._logged.add(number)
            log.warning("can't %s: %s; it is tried again at the next sweep", what, exc)

    def _scan(self, now_ns: int) -> list[_Published]:
        found = []
        with syscalls.scan_directory(self._directory) as entries:
            for index, entry in enumerate(entries):
                if index % _BREATH_FILES == 0:
                    yield_gil()
                try:
                    if entry.name.endswith(file_names.TMP_SUFFIX):
                        self._remove_stale(entry, now_ns)
                    elif (name := _parse(entry.name)) is not None:
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append(_Published(name.to_ns, size, entry.path, name))
                    elif (archive := archives.parse(entry.name)) is not None:
                        if archives.why_unreadable(entry.path):  # of a disk that is not mounted
                            continue
                        size = entry.stat(follow_symlinks=False).st_size
                        name = FileName(*archive[:3], 0, "", 1, 1, 0)
                        found.append(
                            _Published(name.to_ns, size, entry.path, name, is_archive=True)
                        )
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    self._log_failure("remove temporary files of a killed process", exc)
        return found

    @staticmethod
    def _remove_stale(entry: os.DirEntry[str], now_ns: int) -> None:
        is_ours = file_names.is_temporary(entry.name) or archives.is_temporary(entry.name)
        if is_ours and entry.stat(follow_symlinks=False).st_mtime_ns < now_ns - _STALE_TMP_NS:
            syscalls.unlink(entry.path)
