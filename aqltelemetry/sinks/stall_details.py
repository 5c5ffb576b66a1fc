"""The files of the details of stalls: their names, how they are published, and read.

`stall-details.<from>-<to>.<pid>-<writer>.<number>-<number>-0.jsonl` has a line of JSON for each
stall; docs/reference/formats.md describes them. A file is written line by line under a temporary
name, and published by a link. A killed process leaves it behind; another recording publishes
the whole lines of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from aqltelemetry.observation import STALL_DETAILS
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.publication import take_name
from aqltelemetry.system import syscalls

PREFIX = STALL_DETAILS
SUFFIX = ".jsonl"
_MAX_BYTES = 64 << 20
_KEYS = frozenset({"version", "begin_ns", "end_ns", "length_s", "pid", "writer", "cause"})


def parse(name: str) -> FileName | None:
    """Parse the name of a published file of details; None for any other name."""
    if not name.startswith(PREFIX + ".") or not name.endswith(SUFFIX):
        return None
    return file_names.parse(name.removesuffix(SUFFIX) + file_names.CSV_SUFFIX)


def temporary(writer: str, number: int) -> str:
    """Return the name of a file that is being written."""
    return file_names.temporary(PREFIX, writer, number)


def recover(directory: str) -> int:
    """Publish the details that killed processes left in a directory; return how many files."""
    published = 0
    for name in syscalls.list_unsorted(directory):
        if name.startswith(PREFIX + ".") and file_names.is_temporary(name):
            path = os.path.join(directory, name)
            with suppress(OSError):
                fd = syscalls.open_file(path, os.O_RDONLY)
                try:
                    syscalls.lock(fd)  # raises BlockingIOError while its writer lives
                    published += publish(directory, path)
                finally:
                    syscalls.close(fd)
    return published


def publish(directory: str, path: str) -> bool:
    """Give a file the name that its lines ask for; remove it if it has no whole one."""
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES)
    lines = parse_lines(data)
    if lines:
        _end_last_line(path, data)
        number = int(path.split(".")[-2])
        span = file_names.enclosing(
            min(line["begin_ns"] for line in lines), max(line["end_ns"] for line in lines)
        )
        name = FileName(PREFIX, *span, lines[0]["pid"], lines[0]["writer"], number, number, 0)
        with suppress(FileExistsError):
            take_name(
                path,
                os.path.join(directory, str(name).removesuffix(file_names.CSV_SUFFIX) + SUFFIX),
            )
    with suppress(FileNotFoundError):
        syscalls.unlink(path)
    return bool(lines)


def _end_last_line(path: str, data: bytes) -> None:
    """Leave no part of a line in a file; a line that lacks only its end is whole, and gets it."""
    end = data.rfind(b"\n") + 1
    if parse_lines(data[end:]):
        fd = syscalls.open_file(path, os.O_WRONLY | os.O_APPEND)
        try:
            syscalls.write(fd, b"\n")
        finally:
            syscalls.close(fd)
    elif end < len(data):
        syscalls.truncate(path, end)


def read(directories: Iterable[str], *, with_unpublished: bool) -> Iterator[dict[str, Any]]:
    """Yield the details in some directories, those of files that are being written too if asked.

    A file that vanishes or can't be read is left out: its stalls are without details. One that has
    a copy in another of the directories is read once.
    """
    seen: set[str] = set()
    for directory in directories:
        for name in syscalls.list_directory(directory):
            is_unpublished = name.startswith(PREFIX + ".") and file_names.is_temporary(name)
            is_new = parse(name) is not None and name not in seen
            if is_new or (with_unpublished and is_unpublished):
                seen.add(name)
                with suppress(OSError), open(os.path.join(directory, name), "rb") as file:
                    yield from parse_lines(file.read())


def parse_lines(data: bytes) -> Sequence[dict[str, Any]]:
    """Return the details in a file, without what is not whole or not of this format."""
    found = []
    for line in data.splitlines():
        with suppress(ValueError):
            detail = json.loads(line)
            if isinstance(detail, dict) and detail.keys() >= _KEYS:
                found.append(detail)
    return found
