"""Lists the published files of directories that are still to be shipped, in order.

A file is there as a CSV file, or in an archive, from which it is shipped alike.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from aqltelemetry.observation import ACCOUNT, CSV_HEADER
from aqltelemetry.reading.listing import list_published
from aqltelemetry.shipping.ledger import Plan, PlannedFile
from aqltelemetry.sinks import archives, file_names
from aqltelemetry.sinks.archives import Member, members_of
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.removals import is_removals
from aqltelemetry.system import syscalls

MAX_FILES = 20_000
"""The largest number of files that `pending` returns."""
_ROW_BYTES = 60  # of CSV text, about


class PendingFile(NamedTuple):
    """A published file: its parsed name, that name, and its size; about that, in an archive."""

    name: FileName
    published: str
    size_bytes: int


class Book(Protocol):
    """What is known of files: a ledger."""

    def known(self, names: Collection[str]) -> set[str]:
        """Return which of these files need not be shipped."""
        ...

    def done_archives(self, names: Collection[str]) -> set[str]:
        """Return which of these archives contain no file that needs to be shipped."""
        ...

    def note_archive(self, name: str, members: Collection[str]) -> None:
        """Note that all files of an archive are known."""
        ...


class Present(NamedTuple):
    """The published files that are in the directories now.

    `paths` maps the name under which each CSV file was published to its present path, and
    `archives` the name of each archive to its path. `unreadable` are the directories and
    archives that could not be read, with the reason.
    """

    paths: Mapping[str, str]
    archives: Mapping[str, str]
    unreadable: Mapping[str, str]

    def missing(self, published: Iterable[str]) -> set[str]:
        """Return which of these files are neither there nor in an archive."""
        left = {name for name in published if name not in self.paths}
        return left.difference(*self.archived(left).values())

    def archived(self, published: Collection[str]) -> dict[str, set[str]]:
        """Map the paths of archives to those of some files that are in them; each is once."""
        left = {name: parsed for name in published if (parsed := file_names.parse(name))}
        found: dict[str, set[str]] = {}
        for entry, path in self.archives.items() if left else ():
            archive = archives.parse(entry)
            if archive is None or not any(
                archive.prefix == name.prefix
                and archive.from_ns <= name.from_ns
                and name.to_ns <= archive.to_ns
                for name in left.values()
            ):
                continue
            with suppress(OSError):
                names = {str(member.name) for member in members_of(path)}
                if inside := names & left.keys():
                    found[path] = inside
                    left = {name: parsed for name, parsed in left.items() if name not in inside}
        return found


def list_present(directories: Sequence[str]) -> Present:
    """List the published files of directories, without accounts of removed files."""
    paths: dict[str, str] = {}
    archived: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for given in directories:
        # Destinations may not resolve a path by the working directory.
        directory = os.path.abspath(given)
        try:
            files = list_published(directory).files
            links = _links(directory)
        except OSError as exc:
            unreadable[given] = exc.strerror or str(exc)
            continue
        for name, published in files.items():
            path = os.path.join(directory, name)
            if not archives.is_archive(name):
                paths.setdefault(published, path)
            elif name in links and (reason := archives.why_unreadable(path)):
                unreadable[path] = reason
            else:
                archived.setdefault(name, path)
    shippable = {name: path for name, path in paths.items() if _is_shippable(name)}
    return Present(shippable, archived, unreadable)


def _links(directory: str) -> set[str]:
    with syscalls.scan_directory(directory) as entries:
        return {entry.name for entry in entries if entry.is_symlink()}


def _is_shippable(published: str) -> bool:
    name = file_names.parse(published)
    # They describe this directory, and each replaces the one before.
    return name is not None and not is_removals(name)


def pending(
    present: Present, book: Book, leave_out: Callable[[str, str], object] = lambda *_: None
) -> list[PendingFile]:
    """Return files that need to be shipped, at most the first 20,000 by prefix and time.

    In the book it is noted which archives contain none of them, and need not be read again.
    `leave_out` is called with the path of an archive that can't be read, and the reason.
    """
    known = book.known(present.paths.keys())
    heap: list[tuple[str, str]] = [(name, "") for name in present.paths if name not in known]
    done = book.done_archives(present.archives.keys())
    for entry in present.archives.keys() - done:
        archive = archives.parse(entry)
        if archive is not None:
            # Before all of its files.
            heap.append((f"{archive.prefix}.{file_names.stamp(archive.from_ns)}", entry))
    heapq.heapify(heap)
    found: list[PendingFile] = []
    archived: dict[str, Member] = {}
    while heap and len(found) < MAX_FILES:
        name, entry = heapq.heappop(heap)
        if entry:
            for member in _new_members(present.archives[entry], entry, book, leave_out):
                if archived.setdefault(str(member.name), member) is member:
                    heapq.heappush(heap, (str(member.name), ""))
            continue
        if found and found[-1].published == name:  # it is in an archive and in another directory
            continue
        parsed = file_names.parse(name)
        size = _size(present.paths.get(name), archived.get(name))
        if parsed is not None and size is not None:
            found.append(PendingFile(parsed, name, size))
    return found


def _new_members(
    path: str, entry: str, book: Book, leave_out: Callable[[str, str], object]
) -> list[Member]:
    """Return the files in an archive that are not known; note the archive if there are none."""
    try:
        members = members_of(path)
    except FileNotFoundError:
        return []
    except OSError as exc:
        leave_out(path, str(exc).removeprefix(f"{path}: "))
        return []
    names = [str(member.name) for member in members]
    known = book.known(names)
    if known.issuperset(names):
        book.note_archive(entry, names)
    return [member for member in members if str(member.name) not in known]


def remembered(present: Present, book: Book) -> set[str]:
    """Return the files that are there, without those in archives that are not read again."""
    found = set(present.paths)
    for entry in present.archives.keys() - book.done_archives(present.archives.keys()):
        with suppress(OSError):
            found.update(str(member.name) for member in members_of(present.archives[entry]))
    return found


def _size(path: str | None, member: Member | None) -> int | None:
    """Return the size of a file, which is estimated in an archive; None if it is not there."""
    if path is not None:
        with suppress(OSError):  # it has just been removed; the next listing shows it
            return syscalls.look_at(path).st_size
    return None if member is None else len(CSV_HEADER) + member.rows * _ROW_BYTES


def plans(files: Iterable[PendingFile], max_files: int, max_bytes: int) -> Iterator[Plan]:
    """Yield shipments of files: durations before runtime series, accounts last.

    The files of a writer are in the order of its segments. Those of several writers are merged
    by time, so that a writer with much to ship does not hold up the others.
    """
    by_prefix: dict[str, list[PendingFile]] = {}
    for file in files:
        by_prefix.setdefault(file.name.prefix, []).append(file)
    for prefix in sorted(by_prefix, key=lambda prefix: (prefix == ACCOUNT, prefix)):
        chosen: list[PlannedFile] = []
        size = 0
        for file in _merged(by_prefix[prefix]):
            chosen.append(PlannedFile(file.published, file.size_bytes))
            size += file.size_bytes
            if len(chosen) >= max_files or size >= max_bytes:
                yield _plan(prefix, chosen)
                chosen, size = [], 0
        if chosen:
            yield _plan(prefix, chosen)


def _plan(prefix: str, files: Sequence[PlannedFile]) -> Plan:
    text = "\n".join(file.name for file in files)
    return Plan(hashlib.blake2s(text.encode(), digest_size=16).hexdigest(), prefix, files)


def _merged(files: Iterable[PendingFile]) -> Iterator[PendingFile]:
    """Yield files by time, but those of a writer in the order of its segments."""
    writers: dict[str, deque[PendingFile]] = {}
    for file in sorted(files, key=lambda file: (file.name.first, file.name.part)):
        writers.setdefault(file.name.writer, deque()).append(file)
    heap = [(queue[0].name.from_ns, writer) for writer, queue in writers.items()]
    heapq.heapify(heap)
    while heap:
        _, writer = heapq.heappop(heap)
        queue = writers[writer]
        yield queue.popleft()
        if queue:
            heapq.heappush(heap, (queue[0].name.from_ns, writer))
