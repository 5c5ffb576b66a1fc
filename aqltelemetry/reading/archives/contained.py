"""Finds the CSV files whose rows are in an archive too, because that was just made of them."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from aqltelemetry.sinks import archives, file_names
from aqltelemetry.sinks.archives import members_of
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system import syscalls


def contained(directory: str, entries: Iterable[str], published: Iterable[str]) -> dict[str, str]:
    """Map published names of CSV files to the archive that contains them.

    Args:
        directory: Where the archives are.
        entries: The names there; only archives among them count.
        published: The names of CSV files, there or elsewhere, as they were published.
    """
    found: dict[str, str] = {}
    names: list[str] | None = None
    for entry in entries:
        span = archives.span(entry)
        if span is None:
            continue
        if names is None:
            names = sorted(published)
        begin, end = span
        near = names[bisect_left(names, begin) : bisect_right(names, f"{end}~")]
        if near:
            with suppress(OSError):
                inside = {str(each.name) for each in members_of(os.path.join(directory, entry))}
                found.update((name, entry) for name in near if name in inside)
    return found


def archived_elsewhere(directories: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Map published names of CSV files to the path of an archive in another directory.

    `directories` are the files of several directories, as in `listing.Listing`.
    """
    found: dict[str, str] = {}
    for path, entries in directories.items():
        for other, files in directories.items():
            if other != path:
                inside = contained(path, entries, files.values())
                found.update((name, os.path.join(path, inside[name])) for name in inside)
    return found


def moved(directories: Mapping[str, Mapping[str, str]]) -> set[tuple[str, str]]:
    """Return directory and name of the links to archives that are in another directory now.

    `directories` are the files of several directories, as in `listing.Listing`.
    """
    places: dict[str, list[str]] = defaultdict(list)
    for path, files in directories.items():
        for name in filter(archives.is_archive, files):
            places[name].append(path)
    return {
        (path, name)
        for name, paths in places.items()
        if len(paths) > 1
        for path in paths
        if archives.why_unreadable(os.path.join(path, name))
    }


def in_archives(directory: str, published: Collection[str]) -> dict[str, set[str]]:
    """Map the archives of a directory that contain some of these files to those that they do."""
    by_prefix: dict[str, set[FileName]] = defaultdict(set)
    for name in filter(None, map(file_names.parse, published)):
        by_prefix[name.prefix].add(name)
    found: dict[str, set[str]] = {}
    left = {str(name) for names in by_prefix.values() for name in names}
    for entry in syscalls.list_directory(directory) if left else ():
        archive = archives.parse(entry)
        if archive is None or not any(
            archive.from_ns <= name.from_ns and name.to_ns <= archive.to_ns
            for name in by_prefix.get(archive.prefix, ())
        ):
            continue
        with suppress(OSError):
            names = {str(member.name) for member in members_of(os.path.join(directory, entry))}
            if inside := names & left:
                found[entry] = inside
                left -= inside
    return found
