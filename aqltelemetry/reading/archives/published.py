"""Reads published files, whether they are CSV files or in archives.

A name is that of a CSV file; of an archive; `<archive>/<CSV file>`, for a file in an archive; or
`<archive>/<writer>`, for all files of a writer there. The archive may also be given as directory.

A CSV file may be archived after its directory was listed, and before it is read. It is read from
the archive then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple, TypeAlias

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.archives.at_once import for_each
from aqltelemetry.reading.archives.contained import in_archives
from aqltelemetry.reading.archives.placed import read_placed
from aqltelemetry.reading.archives.rows import read_archive
from aqltelemetry.reading.csv_frames import EVERYTHING, Wanted, read_rows, warn
from aqltelemetry.reading.file_groups import GONE
from aqltelemetry.reading.rows import Rows, join
from aqltelemetry.sinks import archives, file_names
from aqltelemetry.sinks.file_names import FileName

_LeaveOut: TypeAlias = Callable[[str, str], None]


class Places(NamedTuple):
    """What a reader has read, and where it reads.

    `known` are the published names of files that are left out where they are in an archive. A CSV
    file that was removed is also searched in the archives of `directories`.
    """

    known: Collection[str] = ()
    directories: Sequence[str] = ()


NO_PLACES = Places()


def read_published(  # noqa: PLR0913, PLR0917 - as `read_rows`, and one more
    directory: str,
    names: Iterable[str],
    wanted: Wanted = EVERYTHING,
    leave_out: _LeaveOut | None = None,
    progress: Callable[[int, int], object] | None = None,
    places: Places = NO_PLACES,
) -> Rows:
    """Return the rows of published files; the arguments are those of `csv_frames.read_rows`."""
    plain: list[str] = []
    archived: list[str] = []
    parent, archive = os.path.split(directory)
    if archives.is_archive(archive):
        directory, names = parent, [f"{archive}/{name}" for name in names]
    for name in names:
        (archived if archives.SUFFIX in name else plain).append(name)
    gone: list[str] = []

    def leave_out_csv(name: str, reason: str) -> None:
        if reason == GONE:
            gone.append(name)
        elif leave_out is None:
            warn(os.path.join(directory, name), reason)
        else:
            leave_out(name, reason)

    parts = [read_rows(directory, plain, wanted, leave_out_csv, progress)]
    tasks = [
        _Task(directory, archive, _Chosen(member, places.known))
        for archive, _, member in (name.partition("/") for name in archived)
    ]
    for place in dict.fromkeys([directory, *places.directories]):
        tasks += _archived_meanwhile(place, gone)
    numbers = count(1)

    def done() -> None:
        if progress is not None:
            number = min(next(numbers), len(archived))
            progress(len(plain) + number, len(plain) + len(archived))

    if tasks:
        placed = _placed(tasks, wanted, done)
        parts += [placed] if placed is not None else _read(tasks, wanted, leave_out, done)
        encoding.release_memory()
    return parts[0] if len(parts) == 1 else join(parts)


class _Chosen:
    """Says of the files in an archive whether they are wanted: all, one, or those of a writer."""

    def __init__(self, only: str, known: Collection[str]) -> None:
        self._only = only
        self._known = known

    def __call__(self, name: FileName) -> bool:
        if self._only and self._only not in (name.writer, str(name)):
            return False
        return not self._known or str(name) not in self._known


class _Task(NamedTuple):
    """An archive to be read, and which of its files."""

    directory: str
    archive: str
    chosen: Callable[[FileName], bool]

    @property
    def path(self) -> str:
        """The path of the archive."""
        return os.path.join(self.directory, self.archive)


def _placed(tasks: Sequence[_Task], wanted: Wanted, done: Callable[[], object]) -> Rows | None:
    """Return the rows of archives that are wanted whole; None if they are not, or one fails."""
    if wanted != EVERYTHING:
        return None
    with suppress(OSError, MissingExtraError):
        if all(task.chosen(each.name) for task in tasks for each in archives.members_of(task.path)):
            return read_placed([task.path for task in tasks], done)
    return None


def _read(
    tasks: Sequence[_Task],
    wanted: Wanted,
    leave_out: _LeaveOut | None,
    done: Callable[[], object],
) -> Iterator[Rows]:
    """Yield the rows of each archive, of which several are read at the same time."""

    def read(task: _Task) -> tuple[_Task, Sequence[Rows], str]:
        try:
            return task, read_archive(task.path, wanted, task.chosen), ""
        except FileNotFoundError:
            return task, (), archives.why_unreadable(task.path)
        except (OSError, MissingExtraError) as exc:
            return task, (), str(exc).removeprefix(f"{task.path}: ")

    for task, rows, reason in for_each(read, tasks):
        if reason and leave_out is None:
            warn(task.path, reason)
        elif reason and leave_out is not None:
            leave_out(task.archive, reason)
        yield from rows
        done()


def _archived_meanwhile(directory: str, gone: Iterable[str]) -> list[_Task]:
    """Return where to read CSV files that were archived after they were listed."""
    missing = {file_names.uncompressed(name) for name in gone}
    found = in_archives(directory, missing)
    return [_Task(directory, archive, _OneOf(found[archive])) for archive in found]


class _OneOf:
    """Says of the files in an archive whether they are some that are missing."""

    def __init__(self, missing: Collection[str]) -> None:
        self._missing = missing

    def __call__(self, name: FileName) -> bool:
        return str(name) in self._missing
