"""Archives: Parquet files that contain published CSV files of one prefix.

`<prefix>.<from>-<to>.<id>.parquet`, for example
`duration.20261123T200000012345-20261123T205959954321.9f3ab2c47d51e0aa.parquet`

`from` and `to` enclose the timepoints, as in the names of CSV files. `id` is derived from the
names of the CSV files. Which these are is in the file's own metadata. It is read here without a
Parquet library, since retention runs within the recorded process.

Key `aqltelemetry.files`: a line for each CSV file: its name, the number of its rows, their
checksum, and, of an account, the number of observations that were accepted into its segments,
else 1. Key `aqltelemetry.writers`: a line for each writer, a name as if all of its files were one.

An archive that was put into another directory has a symbolic link of the same name where its CSV
files were.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from aqltelemetry.errors import ArchiveError
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system import syscalls

SUFFIX = ".parquet"
FILES_KEY = "aqltelemetry.files"
WRITERS_KEY = "aqltelemetry.writers"
_NAME = re.compile(
    r"(?P<prefix>[A-Za-z0-9_-]+)\.(?P<from>\d{8}T\d{12})-(?P<to>\d{8}T\d{12})"
    r"\.(?P<id>[0-9a-f]{16})\.parquet",
    re.ASCII,
)
_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_CACHED = 64
# Most footers are smaller, so that one read is enough.
_FIRST_BYTES = 64 << 10
_MAX_FOOTER_BYTES = 64 << 20
_TEXT = b"\x18"  # in Thrift's compact protocol: the next field, a text


class ArchiveName(NamedTuple):
    """The parts of an archive's name; times are nanoseconds since the epoch, as in `FileName`."""

    prefix: str
    from_ns: int
    to_ns: int
    id: str

    def __str__(self) -> str:
        span = f"{file_names.stamp(self.from_ns)}-{file_names.stamp(self.to_ns)}"
        return f"{self.prefix}.{span}.{self.id}{SUFFIX}"


class Member(NamedTuple):
    """A CSV file in an archive; `amount` is as in `removals.Removed`."""

    name: FileName
    rows: int
    checksum: int
    amount: int


def name_of(members: Iterable[FileName]) -> ArchiveName:
    """Return the name of the archive of these files, which have one prefix."""
    files = sorted(members)
    digest = hashlib.sha256("\n".join(map(str, files)).encode()).hexdigest()
    from_ns, to_ns = min(each.from_ns for each in files), max(each.to_ns for each in files)
    return ArchiveName(files[0].prefix, from_ns, to_ns, digest[:16])


def is_archive(name: str) -> bool:
    """Return whether this is the name of an archive."""
    return name.endswith(SUFFIX) and _NAME.fullmatch(name) is not None


def parse(name: str) -> ArchiveName | None:
    """Parse the name of an archive; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        times_ns = file_names.nanoseconds(match["from"]), file_names.nanoseconds(match["to"])
    except ValueError:
        return None
    return ArchiveName(match["prefix"], *times_ns, match["id"])


def span(name: str) -> tuple[str, str] | None:
    """Return how the names of the files in an archive begin, at its begin and at its end.

    These are prefix and time, which are not parsed. None for any other name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return f"{match['prefix']}.{match['from']}", f"{match['prefix']}.{match['to']}"


def why_unreadable(path: str) -> str:
    """Return why the archive that a link stands for is not there; "" if it is, or is no link."""
    if not os.path.islink(path) or os.path.exists(path):
        return ""
    return f"it is in {os.path.dirname(os.path.realpath(path))}, which can't be read"


def temporary(name: ArchiveName) -> str:
    """Return the name of an archive that is being written."""
    return f"{name}{file_names.TMP_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Return whether a name is a result of `temporary`."""
    return name.endswith(file_names.TMP_SUFFIX) and is_archive(
        name.removesuffix(file_names.TMP_SUFFIX)
    )


def metadata(members: Sequence[Member]) -> dict[str, str]:
    """Return the metadata of an archive with these members, in the order of their codes."""
    lines = (f"{each.name} {each.rows} {each.checksum:016x} {each.amount}" for each in members)
    return {
        FILES_KEY: "\n".join(lines),
        WRITERS_KEY: "\n".join(map(str, _by_writer(each.name for each in members))),
    }


def _by_writer(names: Iterable[FileName]) -> list[FileName]:
    found: dict[tuple[int, str], FileName] = {}
    for name in names:
        known = found.setdefault((name.pid, name.writer), name._replace(part=0))
        found[name.pid, name.writer] = known._replace(
            from_ns=min(known.from_ns, name.from_ns),
            to_ns=max(known.to_ns, name.to_ns),
            first=min(known.first, name.first),
            last=max(known.last, name.last),
        )
    return sorted(found.values())


def read_members(path: str) -> list[Member]:
    """Return the members of an archive, in the order of their codes.

    Raises:
        FileNotFoundError: It was removed.
        OSError: It can't be read.
        ArchiveError: It is damaged, or no archive; an OSError too.
    """
    members = []
    for line in _read_text(path, FILES_KEY).splitlines():
        name, *numbers = line.split(" ")
        parsed = file_names.parse(name)
        if parsed is None or len(numbers) != 3:  # noqa: PLR2004 - as in `Member`
            raise ArchiveError(path, f"its list of files contains {line!r}")
        rows, checksum, amount = numbers
        members.append(Member(parsed, int(rows), int(checksum, 16), int(amount)))
    return members


def members_of(path: str) -> Sequence[Member]:
    """Return the same as `read_members`, and remember it for some archives."""
    state = syscalls.look_at(path)
    return _members(path, state.st_ino, state.st_mtime_ns)


@lru_cache(_CACHED)
def _members(path: str, _inode: int, _changed_ns: int) -> Sequence[Member]:
    return tuple(read_members(path))


def read_writers(path: str) -> list[FileName]:
    """Return, for each writer, the name that its files would have as one; raises as above."""
    names = map(file_names.parse, _read_text(path, WRITERS_KEY).splitlines())
    return [name for name in names if name is not None]


def _read_text(path: str, key: str) -> str:
    """Return a text in the metadata of a Parquet file."""
    footer = _read_footer(path)
    begin = footer.rfind(key.encode() + _TEXT)
    if begin < 0:
        raise ArchiveError(path, f"it contains no {key}")
    at = begin + len(key) + len(_TEXT)
    length, shift = 0, 0
    while True:  # a variable-length integer
        byte = footer[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - its last byte
            break
    return footer[at : at + length].decode()


def _read_footer(path: str) -> bytes:
    fd = syscalls.open_file(os.path.realpath(path), os.O_RDONLY | os.O_NONBLOCK)
    try:
        size_bytes = syscalls.describe(fd).st_size
        end = _read_end(fd, size_bytes, _FIRST_BYTES)
        if len(end) < _TAIL_BYTES or not end.endswith(_MAGIC):
            raise ArchiveError(path, "it is not a Parquet file, or truncated")
        footer_bytes = int.from_bytes(end[-_TAIL_BYTES : -len(_MAGIC)], "little") + _TAIL_BYTES
        if footer_bytes > min(size_bytes, _MAX_FOOTER_BYTES):
            raise ArchiveError(path, "it is damaged")
        if footer_bytes > len(end):
            end = _read_end(fd, size_bytes, footer_bytes)
        return end[-footer_bytes:]
    finally:
        syscalls.close(fd)


def _read_end(fd: int, size_bytes: int, length_bytes: int) -> bytes:
    os.lseek(fd, max(0, size_bytes - length_bytes), os.SEEK_SET)
    pieces = []
    while piece := syscalls.read(fd, length_bytes):
        pieces.append(piece)
    return b"".join(pieces)
