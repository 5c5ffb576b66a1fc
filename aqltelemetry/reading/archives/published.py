"""Reads published files, whether they are CSV files or in archives.

A name is that of a CSV file; of an archive; `<archive>/<CSV file>`, for a file in an archive; or
`<archive>/<writer>`, for all files of a writer there. The archive may also be given as directory.

A CSV file may be archived after its directory was listed, and before it is read. It is read from
the archive then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.reading.archives.contained import in_archives
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
    for number, name in enumerate(archived, 1):
        archive, _, member = name.partition("/")
        chosen = _Chosen(member, places.known)
        parts += _read(directory, archive, wanted, chosen, leave_out)
        if progress is not None:
            progress(len(plain) + number, len(plain) + len(archived))
    if gone:
        for place in dict.fromkeys([directory, *places.directories]):
            parts += _read_gone(place, gone, wanted, leave_out)
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


def _read(
    directory: str,
    archive: str,
    wanted: Wanted,
    chosen: Callable[[FileName], bool],
    leave_out: _LeaveOut | None,
) -> Iterator[Rows]:
    path = os.path.join(directory, archive)
    try:
        yield read_archive(path, wanted, chosen)
    except FileNotFoundError:
        reason = archives.why_unreadable(path)
    except (OSError, MissingExtraError) as exc:
        reason = str(exc).removeprefix(f"{path}: ")
    else:
        return
    if reason and leave_out is None:
        warn(path, reason)
    elif reason and leave_out is not None:
        leave_out(archive, reason)


def _read_gone(
    directory: str, gone: Iterable[str], wanted: Wanted, leave_out: _LeaveOut | None
) -> Iterator[Rows]:
    """Yield the rows of CSV files that were archived after they were listed."""
    missing = {file_names.uncompressed(name) for name in gone}
    for archive, found in in_archives(directory, missing).items():

        def chosen(name: FileName, found: Collection[str] = found) -> bool:
            return str(name) in found

        yield from _read(directory, archive, wanted, chosen, leave_out)
