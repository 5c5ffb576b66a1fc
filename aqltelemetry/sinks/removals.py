"""The account of the files that retention has removed, so that lost files are noticed.

It distinguishes a file that retention removed from one that was lost. It is published before
the files are removed and lists everything that its process has removed: each such account
replaces the previous one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from aqltelemetry.observation import ACCOUNT, CSV_HEADER
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import ACCEPTED, REMOVED, AccountRow, format_rows, read_rows
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.publication import Publication, publish
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

NO_SEGMENT = 0
"""`first` and `last` in the name of such an account, which belongs to no segment."""
_RETIRED = "removed "
"""Label, followed by prefix, writer and segments: the `amount` of a `Removed`."""
_MAX_RUNS = 10_000
_MAX_BYTES = 4 << 20
_FILE_MODE = 0o640
_FORGET_NS = 24 * 3600 * NS_PER_S


class Removed(NamedTuple):
    """Removed files of the consecutive segments `first` to `last`.

    `amount` is the number of files; for accounts, the number of observations that were
    accepted into their segments.
    """

    first: int
    last: int
    amount: int


RemovedFiles: TypeAlias = Mapping[tuple[str, str], list[Removed]]
"""Removed files by writer and prefix, in the order of their segments."""


class Removals:
    """Collects and publishes what one process removes from a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._publisher = os.urandom(8).hex()
        self._number = 0
        self._path = ""
        self._runs: dict[tuple[str, str], list[Removed]] = {}
        self._seen_ns: dict[str, int] = {}

    def add(self, name: FileName, amount: int) -> None:
        """Note that a file was removed; see `Removed` for `amount`."""
        runs = self._runs.setdefault((name.writer, name.prefix), [])
        for number, run in enumerate(runs):
            if run.first <= name.first and name.last <= run.last:  # another part of a segment
                runs[number] = run._replace(amount=run.amount + amount)
                return
        runs[:] = merged([*runs, Removed(name.first, name.last, amount)])

    def absorb(self, runs: RemovedFiles) -> None:
        """Add the content of another account, which is about to be removed."""
        for key, others in runs.items():
            self._runs[key] = merged([*self._runs.get(key, ()), *others])

    def forget(self, present: Collection[str], now_ns: int) -> None:
        """Forget writers that have had no file for a day: `verify` no longer reports them.

        `present` are the writers that have a file now.
        """
        self._seen_ns.update(dict.fromkeys(present, now_ns))
        for writer, prefix in tuple(self._runs):
            if self._seen_ns.setdefault(writer, now_ns) < now_ns - _FORGET_NS:
                del self._runs[writer, prefix]
        known = {writer for writer, _ in self._runs}.union(present)
        self._seen_ns = {each: at for each, at in self._seen_ns.items() if each in known}

    def publish(self, planned: Collection[tuple[FileName, int]], removed: int, now_ns: int) -> None:
        """Publish which files were removed and which are `planned`, with amounts; raises OSError.

        `removed` is the number of files that this process has removed.
        """
        content = Removals(self._directory)
        content.absorb(self._runs)
        for name, amount in planned:
            content.add(name, amount)
        numbers = [(REMOVED, removed), (ACCEPTED, 0), *content.rows()]
        rows = (AccountRow(now_ns, value, label) for label, value in numbers)
        self._number += 1
        path = os.path.join(
            self._directory, file_names.temporary(ACCOUNT, self._publisher, self._number)
        )
        span = file_names.enclosing(now_ns, now_ns)
        name = FileName(
            ACCOUNT, *span, os.getpid(), self._publisher, NO_SEGMENT, NO_SEGMENT, self._number
        )
        try:
            _write(path, CSV_HEADER + format_rows(rows, os.getpid()))
            publish(self._directory, [Publication(path, name)])
        except OSError:
            with suppress(OSError):
                syscalls.unlink(path)
            raise
        before, self._path = self._path, os.path.join(self._directory, str(name))
        if before:
            with suppress(OSError):
                syscalls.unlink(before)

    def rows(self) -> list[tuple[str, int]]:
        """Return label and value of the runs, without the oldest if there are too many."""
        rows = [
            (f"{_RETIRED}{prefix} {writer} {run.first}-{run.last}", run.amount)
            for (writer, prefix), runs in self._runs.items()
            for run in runs
        ]
        return rows[-_MAX_RUNS:]

    def is_mine(self, path: str) -> bool:
        """Return whether a path is that of the last published account."""
        return path == self._path


def is_removals(name: FileName) -> bool:
    """Return whether a file is an account of removed files."""
    return name.prefix == ACCOUNT and name.first == NO_SEGMENT


def read_removals(data: bytes) -> RemovedFiles:
    """Return the removed files that an account lists; ignores all other and damaged rows."""
    found: dict[tuple[str, str], list[Removed]] = {}
    for row in read_rows(data, skip_damaged=True):
        words = row.label.removeprefix(_RETIRED).split(" ")
        with suppress(ValueError):
            prefix, writer, span = words
            first, last = span.split("-")
            run = Removed(int(first), int(last), row.value)
            found.setdefault((writer, prefix), []).append(run)
    return found


def load(path: str) -> bytes:
    """Return the content of an account; empty if it can't be read."""
    try:
        fd = syscalls.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return syscalls.read(fd, _MAX_BYTES)
    except OSError:
        return b""
    finally:
        with suppress(OSError):
            syscalls.close(fd)


def merged(runs: Iterable[Removed]) -> list[Removed]:
    """Return runs in order; adjacent and overlapping ones are joined.

    Two processes may have planned to remove the same files. A run within another counts
    once; the amounts of partly overlapping runs are added, since their share is unknown.
    """
    found: list[Removed] = []
    for run in sorted(runs, key=lambda run: (run.first, -run.last, -run.amount)):
        last = found[-1] if found else None
        if last is None or run.first > last.last + 1:
            found.append(run)
        elif run.last > last.last:
            found[-1] = Removed(last.first, run.last, last.amount + run.amount)
    return found


def _write(path: str, data: bytes) -> None:
    fd = syscalls.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    with open(fd, "wb") as file:
        file.write(data)
