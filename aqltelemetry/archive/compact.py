"""Combines published CSV files into archives, and removes them then.

At each moment, each row is in a CSV file, in an archive, or in both, and a reader takes the archive
then: the archive gets its name after it is complete, on the disk and compared with the CSV
files, and before the first of these is removed. A process that is killed leaves an incomplete
temporary file or CSV files that are in an archive too; the next one removes both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from aqltelemetry.archive.archive_file import synchronise, write_archive
from aqltelemetry.archive.csv_file import Content, UnfitError, read_csv_file
from aqltelemetry.archive.details import copy_details
from aqltelemetry.archive.links import link, renew
from aqltelemetry.archive.plan import Ready, groups
from aqltelemetry.archive.rollup import RolledUp, RollUps, roll_up
from aqltelemetry.archive.unshipped import unshipped
from aqltelemetry.errors import ArchiveBusyError
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.archives.contained import contained
from aqltelemetry.reading.listing import Listing, list_published
from aqltelemetry.sinks import archives, file_names
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import epoch_ns

LOCK_NAME = ".archive.lock"
"""A file in a directory that a process locks while it makes archives there."""
_LOCK_MODE = 0o640


@dataclass(slots=True)
class Compacted:
    """What was done, or would be.

    `files` CSV files of `csv_bytes` with `rows` rows became `archives` archives of
    `archive_bytes`. `removed` CSV files were in an archive already. `waiting` files remain until
    they are shipped, since their archives go into another directory. `rolled_up` are the roll-ups.
    `left` maps files that remain as they are to the reason.
    """

    files: int = 0
    csv_bytes: int = 0
    rows: int = 0
    archives: int = 0
    archive_bytes: int = 0
    removed: int = 0
    waiting: int = 0
    rolled_up: RolledUp = field(default_factory=RolledUp)
    left: dict[str, str] = field(default_factory=dict)


def compact(  # noqa: PLR0913 - by name, except for the first
    directory: str,
    *,
    older_than_ns: int,
    to: str | None = None,
    rollups: RollUps | None = None,
    dry_run: bool = False,
    now_ns: Callable[[], int] = epoch_ns,
    progress: Callable[[int], object] = lambda _: None,
) -> Compacted:
    """Combine the published files of a directory that are old enough into archives.

    Processes may record, read, remove old files, ship or recover meanwhile.

    Args:
        directory: The monitoring directory.
        older_than_ns: How long ago a file must end, in nanoseconds.
        to: Where to put archives; None for the same directory. That one has links to them then.
        rollups: Which roll-ups to make; None for none.
        dry_run: Change nothing; only count.
        now_ns: Returns the present time, in nanoseconds since the epoch.
        progress: Called with the size in bytes of the CSV files that were just done.

    Raises:
        ArchiveBusyError: Another process makes archives of this directory.
        MissingExtraError: pyarrow is not installed.
        LedgerError: What was shipped is not known.
        OSError: Something can't be read, written or removed. Nothing is lost, and what was done
            before stays.
    """
    encoding.pyarrow()
    target = directory if to is None or os.path.samefile(to, directory) else to
    done = Compacted()
    if dry_run:
        files = _files(directory, target)[0]
        found = groups(directory, files, older_than_ns, now_ns())
        for group in _ready(found, unshipped(directory, target, files.values()), done):
            _count(done, group)
        return done
    with _locked({directory, target}):
        _remove_temporary(target)
        archived = _files(directory, target)[1]
        if target != directory:
            renew(directory, target)
            link(directory, target, sorted({*archived.values()}))
        done.removed = _remove(directory, sorted(archived))
        files = _files(directory, target)[0]  # with the links that were just made
        found = groups(directory, files, older_than_ns, now_ns())
        for group in _ready(found, unshipped(directory, target, files.values()), done):
            _archive(directory, target, group, done)
            progress(sum(each.size_bytes for each in group))
        if target != directory:
            copy_details(directory, target, now_ns() - older_than_ns)
        if rollups is not None:
            done.rolled_up = roll_up(directory, target, rollups, now_ns())
    return done


def ready_bytes(directory: str, *, older_than_ns: int, now_ns: int) -> int:
    """Return the size of the files that `compact` would archive, for a progress bar."""
    listing = list_published(directory)
    found = groups(directory, listing.files, older_than_ns, now_ns)
    return sum(each.size_bytes for group in found for each in group)


def _ready(
    found: Iterable[list[Ready]], waiting: Collection[str], done: Compacted
) -> Iterator[list[Ready]]:
    """Yield the files of each archive, without those that are `waiting`."""
    for group in found:
        ready = [each for each in group if str(each.name) not in waiting]
        done.waiting += len(group) - len(ready)
        if ready:
            yield ready


def _count(done: Compacted, group: Sequence[Ready]) -> None:
    done.files += len(group)
    done.csv_bytes += sum(each.size_bytes for each in group)
    done.archives += 1


def _files(directory: str, target: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the files of a directory, and map those that are in an archive already to it."""
    listing: Listing = list_published(directory)
    archived = {**listing.archived}
    if target != directory:
        entries = syscalls.list_directory(target)
        elsewhere = contained(target, entries, listing.files.values())
        archived |= {name: elsewhere[of] for name, of in listing.files.items() if of in elsewhere}
    files = {name: of for name, of in listing.files.items() if name not in archived}
    return files, {
        name: archive for name, archive in archived.items() if file_names.is_published(name)
    }


def _archive(directory: str, target: str, group: Sequence[Ready], done: Compacted) -> None:
    contents: list[Content] = []
    sources: list[Ready] = []
    for each in group:
        try:
            contents.append(read_csv_file(os.path.join(directory, each.entry), each.name))
        except FileNotFoundError:  # retention or a reader removed it
            continue
        except (OSError, UnfitError) as exc:
            done.left[each.entry] = str(exc)
        else:
            sources.append(each)
    if not contents:
        return
    name = write_archive(target, contents)
    if target != directory:
        link(directory, target, [str(name)])
    _count(done, sources)
    done.rows += sum(content.member.rows for content in contents)
    done.archive_bytes += syscalls.look_at(os.path.join(target, str(name))).st_size
    # The same name may have been compressed meanwhile.
    forms = (form for each in sources for form in (each.entry, *file_names.forms(each.entry)))
    _remove(directory, [form for form in forms if file_names.is_published(form)])


def _remove(directory: str, entries: Sequence[str]) -> int:
    removed = 0
    for entry in entries:
        with suppress(FileNotFoundError):
            syscalls.unlink(os.path.join(directory, entry))
            removed += 1
    if removed:
        synchronise(directory)
    return removed


def _remove_temporary(target: str) -> None:
    """Remove what a killed process left; a process that lives would hold the lock."""
    for entry in filter(archives.is_temporary, syscalls.list_directory(target)):
        with suppress(FileNotFoundError):
            syscalls.unlink(os.path.join(target, entry))


@contextmanager
def _locked(directories: set[str]) -> Iterator[None]:
    """Hold the locks of directories; raises ArchiveBusyError if another process has one."""
    fds: list[int] = []
    try:
        for directory in sorted(directories):
            path = os.path.join(directory, LOCK_NAME)
            fds.append(syscalls.open_file(path, os.O_RDWR | os.O_CREAT, _LOCK_MODE))
            try:
                syscalls.lock(fds[-1])
            except BlockingIOError:
                raise ArchiveBusyError(directory) from None
        yield
    finally:
        for fd in fds:
            syscalls.close(fd)
