"""Reads all that is known of a recording: its rows, its accounts and its journal.

The journal is read first: a segment that is published in the meantime is then seen in the
journal, in the files or in both, and never in neither.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.dead_writers import find_set_aside, find_writers
from aqltelemetry.journal.dir_lock import lock
from aqltelemetry.journal.files import read_file, segment_number
from aqltelemetry.journal.labels import TableLabels, read_table
from aqltelemetry.journal.reader import Context, read_segment
from aqltelemetry.observation import ACCOUNT, CSV_HEADER, SegmentAccount
from aqltelemetry.reading.archives.contained import archived_elsewhere, in_archives, moved
from aqltelemetry.reading.compression import read_text
from aqltelemetry.reading.listing import list_published
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import Account, account_of, read_account
from aqltelemetry.sinks.archives import is_archive, read_writers, why_unreadable
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import (
    Removed,
    RemovedFiles,
    is_removals,
    merged,
    read_removals,
)
from aqltelemetry.system import syscalls

_PIECE_BYTES = 1 << 20
_LISTINGS = 10


@dataclass(frozen=True, slots=True)
class DataFile:
    """A published file: its parsed name and its number of rows, None if it is damaged."""

    name: FileName
    rows: int | None


@dataclass(slots=True)
class Evidence:
    """All that is known of one writer.

    `journal` holds the accounts of its segments in the journal by number, None for a segment
    that was never recorded to. `damaged` names unreadable files. `retired` lists the files
    that retention removed, by prefix.
    """

    writer: str
    pid: int = 0
    is_alive: bool = False
    files: list[DataFile] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    journal: dict[int, SegmentAccount | None] = field(default_factory=dict)
    set_aside: set[int] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)
    retired: dict[str, list[Removed]] = field(default_factory=dict)


def gather(directories: Sequence[Path], roots: Iterable[Path]) -> Mapping[str, Evidence]:
    """Return the evidence by writer; raises OSError if a directory can't be read.

    A file that can't be read, a link to a CSV file, a pipe and the like count as damaged.
    """
    found = read_journal(roots)
    gone: set[str] = set()
    for directory, entry, published in _files(directories):
        if is_archive(entry):
            _add_archive(found, directory / entry)
            continue
        name = file_names.parse(published)
        if name is None or is_removals(name):
            continue
        try:
            rows, begin = _read_rows(directory / entry, name.pid)
        except FileNotFoundError:  # a reader removed it, or it was archived
            gone.add(str(name))
            continue
        evidence = found.setdefault(name.writer, Evidence(name.writer))
        evidence.pid = name.pid
        _add(evidence, name, rows, begin)
    for directory in directories:
        for archive, names in in_archives(os.fspath(directory), gone).items():
            _add_archive(found, directory / archive, names)
            gone -= names
    # Last: the account of a removal is published before the removal.
    for directory in directories:
        for (writer, prefix), runs in _removals(directory).items():
            if writer in found:
                known = found[writer].retired.get(prefix, ())
                found[writer].retired[prefix] = merged([*known, *runs])
    return found


def unreadable_archives(directories: Sequence[Path]) -> Mapping[str, str]:
    """Map the archives that are only known by a link to the reason why they can't be read.

    Raises:
        OSError: A directory can't be read.
    """
    found: dict[str, str] = {}
    there: set[str] = set()
    for directory in directories:
        for name in filter(is_archive, syscalls.list_directory(directory)):
            if reason := why_unreadable(os.path.join(directory, name)):
                found[name] = reason
            else:
                there.add(name)
    return {name: reason for name, reason in found.items() if name not in there}


def _files(directories: Iterable[Path]) -> Iterator[tuple[Path, str, str]]:
    """Yield directory, present and published name of each file, each that is there once."""
    listings = {
        os.fspath(directory): list_published(os.fspath(directory)).files
        for directory in directories
    }
    elsewhere, away = archived_elsewhere(listings), moved(listings)
    seen: set[str] = set()
    for path, files in listings.items():
        for entry, published in sorted(files.items()):
            is_known = published in elsewhere or published in seen
            if not is_known and (path, entry) not in away:
                seen.add(published)
                yield Path(path), entry, published


def _add_archive(
    found: dict[str, Evidence], path: Path, names: Container[str] | None = None
) -> None:
    """Add the files in an archive, or some; all of them are damaged if it can't be read."""
    from aqltelemetry.audit.archived import archived_files  # noqa: PLC0415 - an extra

    try:
        files = [*archived_files(str(path))]
    except FileNotFoundError:  # retention removed it
        return
    except OSError as exc:
        _add_damaged(found, path, exc)
        return
    for name, rows, account in files:
        if names is not None and str(name) not in names:
            continue
        evidence = found.setdefault(name.writer, Evidence(name.writer))
        evidence.pid = name.pid
        if name.prefix != ACCOUNT:
            evidence.files.append(DataFile(name, rows))
        elif rows is not None:
            with suppress(KeyError):
                evidence.accounts.append(account_of(name, account))
                continue
        if rows is None or name.prefix == ACCOUNT:
            evidence.damaged.append(f"{name} in {path.name}")


def _add_damaged(found: dict[str, Evidence], path: Path, failure: OSError) -> None:
    """Note that an archive is damaged, for each of its writers as far as they are known."""
    try:
        writers = read_writers(str(path))
    except OSError:
        raise failure from None
    for name in writers:
        evidence = found.setdefault(name.writer, Evidence(name.writer))
        evidence.pid = name.pid
        evidence.damaged.append(path.name)


def _removals(directory: Path) -> RemovedFiles:
    """Return the files that retention removed, by the accounts of all processes.

    During a removal each account replaces the one before it, so the directory is listed until
    there is no new one.
    """
    found: dict[tuple[str, str], list[Removed]] = {}
    read: set[str] = set()
    for _ in range(_LISTINGS):
        files = list_published(os.fspath(directory)).files
        names = {entry: file_names.parse(published) for entry, published in files.items()}
        new = {entry for entry, name in names.items() if name and is_removals(name)} - read
        if not new:
            break
        read |= new
        for entry in sorted(new):
            for key, runs in read_removals(_content(directory / entry)).items():
                found[key] = merged([*found.get(key, ()), *runs])
    return found


def _content(path: Path) -> bytes:
    """Return the text of an account, empty if it can't be read."""
    try:
        fd = syscalls.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return b"".join(read_text(fd, path.name))
    except OSError:
        return b""
    finally:
        syscalls.close(fd)


def _add(evidence: Evidence, name: FileName, rows: int | None, begin: bytes) -> None:
    if name.prefix != ACCOUNT:
        evidence.files.append(DataFile(name, rows))
    if rows is None:
        evidence.damaged.append(str(name))
    elif name.prefix == ACCOUNT:
        try:
            evidence.accounts.append(read_account(name, begin))
        except (ValueError, KeyError):
            evidence.damaged.append(str(name))


def _read_rows(path: Path, pid: int) -> tuple[int | None, bytes]:
    """Return the number of rows of a file, None if it is damaged, and its first piece.

    Raises FileNotFoundError.
    """
    try:
        fd = syscalls.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:
        return None, b""
    try:
        if not stat.S_ISREG(syscalls.describe(fd).st_mode):
            return None, b""
        return _count(read_text(fd, path.name, _PIECE_BYTES), pid)
    except OSError:
        return None, b""
    finally:
        syscalls.close(fd)


def _count(pieces: Iterable[bytes], pid: int) -> tuple[int | None, bytes]:
    """Count rows piece by piece, since a foreign file may have any size."""
    mark = b",%d\n" % pid
    begin = rest = b""
    lines = rows = 0
    for piece in pieces:
        begin = begin or piece
        text = rest + piece
        end = text.rfind(b"\n") + 1
        lines += text.count(b"\n", 0, end)
        rows += text.count(mark, 0, end)
        rest = text[end:]
        if len(rest) > _PIECE_BYTES:  # longer than any row
            return None, begin
    is_whole = begin.startswith(CSV_HEADER) and rows == lines - 1 and not rest
    return rows if is_whole else None, begin


def read_journal(roots: Iterable[Path]) -> dict[str, Evidence]:
    """Return the evidence in the journal by writer; raises OSError."""
    found: dict[str, Evidence] = {}
    for root in roots:
        _read_root(root, found)
    return found


def _read_root(root: Path, found: dict[str, Evidence]) -> None:
    try:
        owner = syscalls.look_at(root).st_uid  # another user, if root reads the journal
    except FileNotFoundError:
        return
    for path in find_writers(root):
        evidence = found.setdefault(path.name, Evidence(path.name))
        lock_fd = lock(path)
        if lock_fd is None:
            evidence.is_alive = path.exists()
        else:
            os.close(lock_fd)
        with suppress(FileNotFoundError):  # another process recovered it in the meantime
            labels = read_table(path, _keep_gil, uid=owner)
            for name in syscalls.list_directory(path):
                number = segment_number(name)
                if number is not None:
                    _read_segment(evidence, path / name, number, owner, labels)
    for writer, number in find_set_aside(root):
        found.setdefault(writer, Evidence(writer)).set_aside.add(number)


def _read_segment(
    evidence: Evidence, path: Path, number: int, owner: int, labels: TableLabels
) -> None:
    try:
        reading = read_segment(
            read_file(path, uid=owner),
            recovered=True,
            context=Context(labels=labels),
            yield_gil=_keep_gil,
        )
    except FileNotFoundError:
        return
    except (OSError, SegmentError, ValueError):
        evidence.damaged.append(path.name)
        return
    evidence.journal[number] = reading.batch.account
    evidence.pid = reading.batch.pid


def _keep_gil() -> None:
    pass
