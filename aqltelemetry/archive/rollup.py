"""Adds up the rows of archives by interval and label, each CSV file in them once.

A roll-up names the CSV files that it covers, as an archive does, and its name derives from them. It
appears when it is complete, on the disk and was read again. So a process that is killed leaves a
temporary file at most, and the next one makes what is missing: an archive whose files are in
roll-ups is not added up again, nor are those of its files that are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from aqltelemetry.archive.archive_file import new_file, synchronise
from aqltelemetry.archive.links import link
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.archives.rows import read_parts
from aqltelemetry.reading.rollups import files
from aqltelemetry.reading.rollups.adding import added, single
from aqltelemetry.reading.rollups.files import RollUp
from aqltelemetry.reading.rows import Rows
from aqltelemetry.sinks import archives, file_names
from aqltelemetry.sinks.archives import ArchiveName, Member, members_of
from aqltelemetry.sinks.publication import take_name
from aqltelemetry.system import syscalls


@dataclass(frozen=True, slots=True)
class RollUps:
    """Which roll-ups are made and kept: the length of an interval, and their age, both in ns."""

    interval_ns: int
    keep_ns: int


@dataclass(slots=True)
class RolledUp:
    """What was done: `files` roll-ups with `rows` rows were made, `removed` were too old."""

    files: int = 0
    rows: int = 0
    removed: int = 0


def roll_up(directory: str, target: str, wanted: RollUps, now_ns: int) -> RolledUp:
    """Make the roll-ups of the archives that a directory has or links to; remove those too old.

    The caller holds the locks of both directories.

    Args:
        directory: The monitoring directory.
        target: Where its archives are.
        wanted: What to make and to keep.
        now_ns: The present time, in nanoseconds since the epoch.

    Raises:
        OSError: Something can't be read, written or removed.
        ArchiveError: An archive, or a roll-up that exists, is damaged; an OSError too.
    """
    done = RolledUp()
    oldest_ns = now_ns - wanted.keep_ns
    places = [*dict.fromkeys(map(os.path.realpath, (directory, target)))]
    _remove_temporary(places)
    for name in syscalls.list_directory(directory):
        archive = archives.parse(name)
        path = os.path.realpath(os.path.join(directory, name))
        place = os.path.dirname(path)
        if archive is None or archive.prefix == ACCOUNT or archive.to_ns < oldest_ns:
            continue
        if place not in places:  # archives were put elsewhere before
            continue
        with suppress(FileNotFoundError):  # retention removed it
            for rows, made in _made(places, path, archive, wanted.interval_ns):
                done.files += rows > 0
                done.rows += rows
                if place != places[0]:
                    link(directory, place, [made])
    done.removed = _remove_old(directory, places, oldest_ns)
    return done


def _made(
    places: Sequence[str], path: str, archive: ArchiveName, interval_ns: int
) -> Iterator[tuple[int, str]]:
    """Yield the roll-up of an archive, with the number of its rows, 0 if it was there before."""
    place = os.path.dirname(path)
    if os.path.exists(os.path.join(place, files.name_of(archive))):
        yield 0, files.name_of(archive)
        return
    members = members_of(path)
    covered = _covered(places, archive)
    chosen = [member for member in members if str(member.name) not in covered]
    if chosen:
        name = files.name_of(archives.name_of(member.name for member in chosen))
        is_chosen = np.array([str(member.name) not in covered for member in members], bool)
        rows = added((single(each) for each in _rows(path, is_chosen)), interval_ns)
        _write(os.path.join(place, name), rows, chosen, interval_ns)
        yield len(rows.counts), name


def _covered(places: Sequence[str], archive: ArchiveName) -> set[str]:
    """Return the CSV files that are in roll-ups of about the same time."""
    found: set[str] = set()
    for name, path in files.find(places, archive.prefix).items():
        other = files.parse(name)
        if other is not None and other.from_ns < archive.to_ns and archive.from_ns < other.to_ns:
            found |= {str(member.name) for member in files.read_members(path)}
    return found


def _rows(path: str, is_chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[Rows]:
    for part in read_parts(path):
        yield part.rows if is_chosen.all() else part.rows[is_chosen[part.file_codes]]


def _write(path: str, rows: RollUp, members: Sequence[Member], interval_ns: int) -> None:
    temporary = path + file_names.TMP_SUFFIX
    metadata = {**archives.metadata(members), files.INTERVAL_KEY: str(interval_ns)}
    try:
        with new_file(temporary) as file:
            encoding.write_others(file, files.table(rows), metadata)
        files.check(temporary)
        with suppress(FileExistsError):
            take_name(temporary, path)
    finally:
        with suppress(OSError):
            syscalls.unlink(temporary)
    synchronise(os.path.dirname(path))


def _remove_old(directory: str, places: Sequence[str], oldest_ns: int) -> int:
    removed = 0
    for name, path in files.find([directory]).items():
        archive = files.parse(name)
        if archive is None or archive.to_ns >= oldest_ns:
            continue
        real = os.path.realpath(path)
        for each in dict.fromkeys((real, path) if os.path.dirname(real) in places else (path,)):
            with suppress(FileNotFoundError):
                syscalls.unlink(each)
        removed += 1
    return removed


def _remove_temporary(places: Sequence[str]) -> None:
    for place in places:
        for entry in filter(files.is_temporary, syscalls.list_directory(place)):
            with suppress(FileNotFoundError):
                syscalls.unlink(os.path.join(place, entry))
