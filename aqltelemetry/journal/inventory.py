"""Lists the writers in the journal of a monitoring directory, alive or dead."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import format as fmt
from aqltelemetry.journal.dead_writers import find_set_aside, find_writers
from aqltelemetry.journal.dir_lock import is_alive
from aqltelemetry.journal.files import SEGMENT_SUFFIX, read_file
from aqltelemetry.journal.labels import TABLE_NAME


class WriterInfo(NamedTuple):
    """A writer with a directory in the journal.

    `pid` is what the writer's own PID namespace calls it, and 0 if no segment header is intact;
    `directory` is where it publishes; `segments` and `size_bytes` are what it holds.
    """

    writer: str
    pid: int
    is_alive: bool
    directory: str
    segments: int
    size_bytes: int


class Inventory(NamedTuple):
    """The writers in the journal, and how many damaged segments were set aside there."""

    writers: Sequence[WriterInfo]
    damaged: int

    @property
    def dead(self) -> Sequence[WriterInfo]:
        """The dead writers whose segments are not all published."""
        return [each for each in self.writers if not each.is_alive and each.segments]


def take_inventory(roots: Iterable[Path], uid: int | None = None) -> Inventory:
    """Return the writers in the journal of a user, by default this process's; raises OSError."""
    writers: list[WriterInfo] = []
    damaged = 0
    for root in roots:
        writers += [_writer_info(path, uid) for path in find_writers(root)]
        damaged += sum(1 for _ in find_set_aside(root))
    return Inventory(writers, damaged)


def mapped_headers(pid: int, proc: Path = Path("/proc")) -> Iterator[fmt.Header]:
    """Yield the header of each segment that a process has in memory.

    Raises FileNotFoundError where there is no such process, PermissionError where
    it is another user's.
    """
    uid = (proc / str(pid)).stat().st_uid
    # As bytes: a file's name need not be text, and may hold what ends a line of text.
    for line in (proc / str(pid) / "maps").read_bytes().split(b"\n"):
        path = line.partition(b"/")[2]
        if path.endswith(os.fsencode(SEGMENT_SUFFIX)):
            # As the process sees the path, which may be in a container. A newline is
            # shown as this escape, and so is the escape itself.
            names = {path, path.replace(b"\\012", b"\n")}
            places = (proc / str(pid) / "root" / os.fsdecode(name) for name in names)
            yield from filter(None, (_header(place, uid) for place in places))


def host_path(pid: int, path: str, proc: Path = Path("/proc")) -> Path:
    """Return the path under which this process sees `path` of a process, maybe in a container."""
    there = proc / str(pid) / "root" / path.lstrip("/")
    try:
        is_here = os.path.samefile(there, path)
    except OSError:
        is_here = os.readlink(proc / str(pid) / "root") == "/"
    return Path(path) if is_here else there


def _writer_info(path: Path, uid: int | None) -> WriterInfo:
    alive = is_alive(path)
    segments = sorted(path.glob(f"*{SEGMENT_SUFFIX}"))
    headers = (_header(each, uid) for each in segments)
    header = next((each for each in headers if each is not None), None)
    return WriterInfo(
        path.name,
        header.pid if header else 0,
        alive,
        header.directory if header else "",
        len(segments),
        sum(_size_bytes(each) for each in (*segments, path / TABLE_NAME)),
    )


def _header(path: Path, uid: int | None) -> fmt.Header | None:
    try:
        return fmt.unpack_header(read_file(path, fmt.RECORDS_AT, uid))
    except (OSError, SegmentError):
        return None


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
