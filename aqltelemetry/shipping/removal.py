"""Removes published files some time after they were shipped, and accounts for them.

The account is that of retention: it lists the files before they are removed, so that
`aqltelemetry verify` explains them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT, CSV_HEADER
from aqltelemetry.shipping.destination import FileGone, ShippedFile
from aqltelemetry.shipping.file_rows import RefusedFileError, read_rows
from aqltelemetry.shipping.ledger import Ledger
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import read_accepted
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import Removals, is_removals, load, read_removals
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

_SWEEP_NS = 10 * NS_PER_S
_OLD_NS = 24 * 3600 * NS_PER_S


class _Old(NamedTuple):
    """A file to remove; see `sinks.removals.Removed` for `amount`."""

    path: str
    name: FileName
    amount: int


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

    def sweep(self, present: Mapping[str, str], now_ns: int) -> int:
        """Remove files, at most every 10 seconds; return their number.

        `present` maps the name under which each file was published to its path now.
        """
        if self._swept_ns is not None and 0 <= now_ns - self._swept_ns < _SWEEP_NS:
            return 0
        self._swept_ns = now_ns
        before_ns = now_ns - self._delete_after_ns
        by_directory: dict[str, list[_Old]] = {}
        for published in self._ledger.shipped_before(before_ns, present.keys()):
            name, path = file_names.parse(published), present[published]
            if name is not None:
                old = _Old(path, name, _amount(path, name))
                by_directory.setdefault(os.path.dirname(path), []).append(old)
        writers = {file_names.writer(name) for name in present}
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
                found.append(_Old(path, name, 0))
        return found

    def _remove(self, removals: Removals, files: list[_Old], now_ns: int) -> int:
        """Publish the account of files, and remove them; raises OSError before any is removed."""
        planned = [(file.name, file.amount) for file in files if not is_removals(file.name)]
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
                if not is_removals(file.name):
                    removals.add(file.name, file.amount)
                    removed += 1
        if not is_exact:
            removals.publish((), self.removed + removed, now_ns)
        return removed

    def _fail(self, text: str) -> None:
        if text != self._failure:
            self._failure = text
            self._report(text)


def _end(file: _Old) -> int:
    return file.name.to_ns


def _amount(path: str, name: FileName) -> int:
    if name.prefix != ACCOUNT:
        return 1
    try:
        return read_accepted(CSV_HEADER + read_rows(ShippedFile(str(name), path)))
    except (FileGone, RefusedFileError):
        return 0
