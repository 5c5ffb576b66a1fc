"""Counts published observations from the bytes of the files, compressed or not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aqltelemetry.errors import CompressedFileError, MissingExtraError
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.compression import read_text
from aqltelemetry.reading.listing import list_published
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import Account, account_of, read_account, recordings
from aqltelemetry.sinks.archives import Member, is_archive, members_of, read_writers
from aqltelemetry.sinks.file_names import FileName


@dataclass
class Published:
    """The content of published files.

    `rows` by file prefix; `processes` as PID and writer; `dropped` observations, by the
    accounts.
    """

    files: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    processes: set[tuple[int, str]] = field(default_factory=set)
    dropped: int = 0


def names(directory: str, writers: str = "") -> list[str]:
    """Return the names under which files were published; none if there is no directory.

    A file that was compressed or renamed later is listed under its first name, and one that is in
    an archive too. `writers` is what the names of the wanted writers begin with.
    """
    found = _Files(directory)
    plain = [name for name in found.plain if file_names.writer(name).startswith(writers)]
    archived = found.members(lambda writer: writer.startswith(writers))
    return sorted({*plain, *(str(member.name) for _, member in archived)})


def count(directory: str, wanted: Collection[str]) -> Published:
    """Count the content of the files published under these names; missing files don't count."""
    found = Published()
    accounts = _Accounts()
    files = _Files(directory)
    for name in wanted:
        parsed = file_names.parse(name)
        if parsed is None or name not in files.plain:
            continue
        try:
            data = _read(os.path.join(directory, files.plain[name]))
        except (FileNotFoundError, CompressedFileError):
            continue
        if parsed.prefix == ACCOUNT:
            with suppress(ValueError, KeyError):  # damaged, which `verify` reports
                accounts.add(parsed, read_account(parsed, data))
            continue
        _add(found, parsed, data.count(b"\n") - 1)
    _count_archived(found, accounts, files, set(wanted) - set(files.plain))
    found.dropped = accounts.dropped()
    return found


def _add(found: Published, name: FileName, rows: int) -> None:
    found.files += 1
    found.rows[name.prefix] += rows
    found.processes.add((name.pid, name.writer))


def _count_archived(found: Published, accounts: _Accounts, files: _Files, wanted: set[str]) -> None:
    """Count the wanted files that are in archives; drops need the extra pyarrow."""
    of_accounts = set()
    writers = {file_names.writer(name) for name in wanted}
    for path, member in files.members(writers.__contains__) if wanted else ():
        if str(member.name) not in wanted:
            continue
        wanted.remove(str(member.name))
        if member.name.prefix == ACCOUNT:
            of_accounts.add(path)
        else:
            _add(found, member.name, member.rows)
    for path in of_accounts:
        with suppress(OSError, ImportError, MissingExtraError):
            _add_accounts(accounts, path, writers)


def _add_accounts(accounts: _Accounts, path: str, writers: Collection[str]) -> None:
    """Add the accounts of some writers in an archive; raises ImportError without the extra."""
    from aqltelemetry.audit.archived import archived_files  # noqa: PLC0415 - an extra

    for file in archived_files(path):
        if file.name.writer in writers:
            with suppress(KeyError):
                accounts.add(file.name, account_of(file.name, file.account))


class _Accounts:
    """Adds up what accounts say of drops: of the reports of a running total, the largest counts."""

    def __init__(self) -> None:
        self._torn = 0
        self._children: dict[str, int | None] = {}
        self._drops: dict[tuple[str, str], int] = {}

    def add(self, name: FileName, account: Account) -> None:
        """Add an account."""
        self._torn += account.torn
        self._children[name.writer] = account.child
        for reason, total, _ in account.dropped:
            known = self._drops.get((name.writer, reason), 0)
            self._drops[name.writer, reason] = max(known, total)

    def dropped(self) -> int:
        """Return how many observations were dropped."""
        found: dict[tuple[str, str], int] = {}
        stands_for = recordings(self._children)
        for (writer, reason), total in self._drops.items():
            key = stands_for[writer], reason
            found[key] = max(found.get(key, 0), total)
        return self._torn + sum(found.values())


class _Files:
    """The files of a directory.

    `plain` maps the name under which each CSV file was published to the name that it has now.
    """

    def __init__(self, directory: str) -> None:
        try:
            found = list_published(directory).files
        except (FileNotFoundError, NotADirectoryError):
            found = {}
        self.plain: Mapping[str, str] = {
            published: name
            for name, published in found.items()
            if file_names.is_published(published)
        }
        self._archives = [os.path.join(directory, name) for name in found if is_archive(name)]

    def members(self, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, Member]]:
        """Yield the files of wanted writers in archives, with the path of the archive."""
        for path in self._archives:
            with suppress(OSError):  # `verify` reports it
                if any(is_wanted(name.writer) for name in read_writers(path)):
                    for member in members_of(path):
                        if is_wanted(member.name.writer):
                            yield path, member


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(read_text(fd, path))
    finally:
        os.close(fd)
