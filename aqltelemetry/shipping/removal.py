"""Removes published files some time after they were shipped, and accounts for them.

The account is that of retention: it lists the files before they are removed, so that
`aqltelemetry verify` explains them. An archive is removed as a whole, once all of its files were
shipped long enough ago, and counts as these files. A link to an archive in another directory
stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT, CSV_HEADER
from aqltelemetry.shipping.destination import FileGone, ShippedFile
from aqltelemetry.shipping.file_rows import RefusedFileError, read_rows
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.shipping.pending import Present
from aqltelemetry.sinks import archives, file_names
from aqltelemetry.sinks.account import read_accepted
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import Removals, is_removals, load, read_removals
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

_SWEEP_NS = 10 * NS_PER_S
_OLD_NS = 24 * 3600 * NS_PER_S


class _Old(NamedTuple):
    """A file or an archive to remove, and until when it goes.

    `amounts` are the files that it counts as, as `Removals.publish` takes them; none for an
    account of removed files.
    """

    path: str
    to_ns: int
    amounts: Sequence[tuple[FileName, int]]


class ShippedRemoval:
    """Removes the files that were shipped more than `delete_after_s` seconds ago.

    Files that were not shipped, or were refused, stay. `report` is called with a line for people.
    """

    def __init__(
        self, ledger: Ledger, delete_after_s: float, report: Callable[[str], object]
    ) -> None:
        self.removed = 0
        self._ledger = ledger
        self._delete_after_ns = int(delete_after_s * NS_PER_S)
        self._report = report
        self._removals: dict[str, Removals] = {}
        self._swept_ns: int | None = None
        self._failure = ""
        self._archived: dict[str, set[str]] = {}

    def sweep(self, present: Present, now_ns: int) -> int:
        """Remove files, at most every 10 seconds; return their number."""
        if self._swept_ns is not None and 0 <= now_ns - self._swept_ns < _SWEEP_NS:
            return 0
        self._swept_ns = now_ns
        before_ns = now_ns - self._delete_after_ns
        by_directory: dict[str, list[_Old]] = {}
        for old in (*self._files(present, before_ns), *self._archives(present, before_ns)):
            by_directory.setdefault(os.path.dirname(old.path), []).append(old)
        writers = self._writers(present) if by_directory else set()
        removed = 0
        for directory, files in by_directory.items():
            removals = self._removals.get(directory)
            if removals is None:
                removals = self._removals[directory] = Removals(directory)
                files.extend(self._old_accounts(directory, removals, now_ns))
            removals.forget(writers, now_ns)
            try:
                removed += self._remove(removals, files, now_ns)
            except OSError as exc:
                self._fail(f"{directory}: shipped files can't be removed: {exc.strerror}")
        self.removed += removed
        if removed:
            self._ledger.deleted(removed)
        return removed

    def _files(self, present: Present, before_ns: int) -> Iterator[_Old]:
        for published in self._ledger.shipped_before(before_ns, present.paths.keys()):
            name, path = file_names.parse(published), present.paths[published]
            if name is not None:
                yield _Old(path, name.to_ns, [(name, _amount(path, name))])

    def _archives(self, present: Present, before_ns: int) -> Iterator[_Old]:
        for entry in self._ledger.archives_before(before_ns, present.archives.keys()):
            path, archive = present.archives[entry], archives.parse(entry)
            if archive is not None and not os.path.islink(path):
                with suppress(OSError):  # it was removed
                    members = archives.read_members(path)
                    yield _Old(path, archive.to_ns, [(each.name, each.amount) for each in members])

    def _writers(self, present: Present) -> set[str]:
        """Return the writers that have files, of which some may be in archives."""
        known, self._archived = self._archived, {}
        for path in present.archives.values():
            writers = known.get(path)
            if writers is None:
                with suppress(OSError):
                    writers = {name.writer for name in archives.read_writers(path)}
            self._archived[path] = writers or set()
        return {file_names.writer(name) for name in present.paths}.union(*self._archived.values())

    def _old_accounts(self, directory: str, removals: Removals, now_ns: int) -> list[_Old]:
        """Return accounts that earlier processes have left, whose content is published again."""
        found = []
        with suppress(OSError):
            for each in syscalls.list_directory(directory):
                name = file_names.parse(each)
                if name is None or not is_removals(name) or name.to_ns > now_ns - _OLD_NS:
                    continue
                path = os.path.join(directory, each)
                removals.absorb(read_removals(load(path)))
                found.append(_Old(path, name.to_ns, ()))
        return found

    def _remove(self, removals: Removals, files: list[_Old], now_ns: int) -> int:
        """Publish the account of files, and remove them; raises OSError before any is removed."""
        planned = [amount for file in files for amount in file.amounts]
        removals.publish(planned, self.removed + len(planned), now_ns)
        removed, is_exact = 0, True
        for file in sorted(files, key=_end):
            try:
                syscalls.unlink(file.path)
            except FileNotFoundError:  # retention was faster, and accounts for it as well
                is_exact = False
            except OSError as exc:
                is_exact = False
                self._fail(f"{file.path} can't be removed: {exc.strerror}")
            else:
                for name, amount in file.amounts:
                    removals.add(name, amount)
                removed += len(file.amounts)
        if not is_exact:
            removals.publish((), self.removed + removed, now_ns)
        return removed

    def _fail(self, text: str) -> None:
        if text != self._failure:
            self._failure = text
            self._report(text)


def _end(file: _Old) -> int:
    return file.to_ns


def _amount(path: str, name: FileName) -> int:
    if name.prefix != ACCOUNT:
        return 1
    try:
        return read_accepted(CSV_HEADER + read_rows(ShippedFile(str(name), path)))
    except (FileGone, RefusedFileError):
        return 0
