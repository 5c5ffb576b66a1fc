"""Lists the published files of a directory, each once, and the files that are not read.

A file is identified by the name under which it was published: its prefix, writer, segments
and part. It may have been compressed, renamed or copied since. Only one of several files with
the same identity is read, and none that is in an archive.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.observation import ACCOUNT, CUSTOM, DURATION, RUNTIME
from aqltelemetry.reading.archives.contained import contained
from aqltelemetry.reading.compression import read_text
from aqltelemetry.sinks import autopsies, file_names, stall_details
from aqltelemetry.sinks.archives import is_archive
from aqltelemetry.system import syscalls

_LISTINGS = 10
_READABLE = (".csv", *(".csv" + suffix for suffix in file_names.COMPRESSED_SUFFIXES))
_NOT_ROWS = (".", f"{stall_details.PREFIX}.")
# The name of a published file with an unknown suffix.
_SIMILAR = re.compile(rf"(?:{DURATION}|{RUNTIME}|{CUSTOM}|{ACCOUNT})\..*\.csv.+", re.IGNORECASE)


class NotRead(NamedTuple):
    """A file that looks like a published one but is not read, and the reason.

    `is_lost` is True if its rows are missing from the result, and False if another file
    contains the same rows.
    """

    name: str
    reason: str
    is_lost: bool = True


class Listing(NamedTuple):
    """The files of a directory: those to read, and those that are not read.

    `files` maps the present name of each file to the name under which it was published; an
    archive has one name. `archived` maps the CSV files that are in an archive, and are not read
    because of that, to the archive.
    """

    files: Mapping[str, str]
    not_read: Sequence[NotRead]
    archived: Mapping[str, str] = MappingProxyType({})


def list_published(directory: str, names: Sequence[str] | None = None) -> Listing:
    """Return the files of a directory; raises OSError if the directory can't be read.

    `names` are the names in the directory, in alphabetical order, if they are known.
    """
    if names is None:
        names = _names(directory)
    files = {name: name for name in file_names.plain_names(names)}
    groups: dict[str, list[str]] = {}
    others = []
    for name in names:
        if name not in files and not name.startswith(_NOT_ROWS) and not autopsies.parse(name):
            published = _published(name)
            if published is None:
                others.append(name)
            else:
                group = groups.setdefault(published, [published] if published in files else [])
                group.append(name)
    not_read: list[NotRead] = []
    for published, group in groups.items():
        files.pop(published, None)
        files[_choose(directory, group, not_read)] = published
    for name, original in _copies_under_other_prefixes(directory, files).items():
        del files[name]
        not_read.append(NotRead(name, f"it is a copy of {original}", is_lost=False))
    not_read += _unreadable(others, files)
    archived = _archived(directory, others, files)
    for name, archive in archived.items():
        del files[name]
        not_read.append(NotRead(name, f"it is in {archive}", is_lost=False))
    files.update((name, name) for name in others if is_archive(name))
    return Listing(files, not_read, archived)


def _names(directory: str) -> Sequence[str]:
    """Return the names in a directory, listed until they stay the same.

    A listing takes time. It may contain neither a file that is removed meanwhile nor the archive
    that was made of it.
    """
    names: Sequence[str] = ()
    for _ in range(_LISTINGS):
        before, names = names, syscalls.list_directory(directory)
        if before == names:
            break
    return names


def _archived(directory: str, others: Sequence[str], files: Mapping[str, str]) -> Mapping[str, str]:
    """Map the CSV files that are in an archive of the directory to that archive."""
    found = contained(directory, others, files.values())
    return {name: found[published] for name, published in files.items() if published in found}


def _published(name: str) -> str | None:
    """Return the name under which a file was published; None if its suffix is unknown."""
    if not name.endswith(_READABLE):
        return None
    if file_names.is_published(name):
        return file_names.uncompressed(name)
    return file_names.published_name(name) or file_names.uncompressed(name)


def _choose(directory: str, names: Sequence[str], not_read: list[NotRead]) -> str:
    """Choose one of the files with the same identity; add the others to `not_read`."""

    def rank(name: str) -> tuple[bool, bool, int, str]:
        is_compressed = not name.endswith(file_names.CSV_SUFFIX)
        return not file_names.is_published(name), is_compressed, len(name), name

    if len(names) == 1:
        return names[0]
    plain, *others = sorted(names, key=rank)
    best = _older(directory, plain, others)
    not_read += (
        NotRead(name, f"it is a copy of {best}", is_lost=False) for name in names if name != best
    )
    return best


def _older(directory: str, plain: str, others: Iterable[str]) -> str:
    """Return the older of a file and its other form, compressed or decompressed.

    The newer one is made from the older one, and may be incomplete while gzip runs.
    """
    form = next((name for name in others if name in file_names.forms(plain)), None)
    if form is None:
        return plain
    try:
        changed, other_changed = (
            syscalls.look_at(os.path.join(directory, name)).st_mtime_ns for name in (plain, form)
        )
    except OSError:  # one of them was just removed; reading shows which
        return plain
    return form if other_changed < changed else plain


def _copies_under_other_prefixes(directory: str, files: Mapping[str, str]) -> Mapping[str, str]:
    """Map files such as `backup-duration.<...>.csv` to the files that they are copies of.

    `backup-duration` may also be the prefix of a sampler, so the content is compared.
    """
    prefixes = {published.partition(".")[0] for published in files.values()}
    if not any(one != other and one.endswith(other) for one in prefixes for other in prefixes):
        return {}
    by_rest: dict[str, list[str]] = defaultdict(list)
    for name, published in files.items():
        if file_names.is_published(published):
            by_rest[published.partition(".")[2]].append(name)
    copies = {}
    for same in by_rest.values():
        original, *longer = sorted(same, key=len)
        for name in longer:
            is_like = files[name].endswith(files[original])
            if is_like and _content(directory, name) == _content(directory, original):
                copies[name] = original
    return copies


def _content(directory: str, name: str) -> bytes | str:
    """Return a file's text; if it is unreadable, its name, which equals no other result."""
    with suppress(OSError, CompressedFileError):
        fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return b"".join(read_text(fd, name))
        finally:
            os.close(fd)
    return name


def _unreadable(names: Sequence[str], files: Mapping[str, str]) -> Iterable[NotRead]:
    """Yield the files whose names look like published ones but have an unknown suffix."""
    if not names:
        return
    rule = "its name must end with .csv, .csv.gz or .csv.zst"
    originals = {published: name for name, published in files.items()}
    for name in names:
        published = file_names.published_name(name) or ""
        if published in originals:
            yield NotRead(name, f"it is a copy of {originals[published]}", is_lost=False)
        elif published or _SIMILAR.fullmatch(name):
            yield NotRead(name, rule)


def summary(not_read: Sequence[NotRead]) -> str:
    """Return a line about files that are not read: their number, and one example."""
    lost = [each for each in not_read if each.is_lost]
    copies = [each for each in not_read if not each.is_lost]
    parts = (_example(lost, "not read"), _example(copies, "left out"))
    return "; ".join(part for part in parts if part)


def _example(found: Sequence[NotRead], what: str) -> str:
    if not found:
        return ""
    first = f"{found[0].name}: {found[0].reason}"
    return (
        f"{what}: {first}" if len(found) == 1 else f"{len(found):,} files {what}, such as {first}"
    )
