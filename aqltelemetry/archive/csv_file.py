"""Reads a CSV file that is to be archived, if it is exactly what a recording writes."""

from __future__ import annotations

import os
from typing import NamedTuple

from aqltelemetry.observation import ACCOUNT, CSV_HEADER
from aqltelemetry.reading.archives.checksums import checksum
from aqltelemetry.reading.compression import read_text
from aqltelemetry.reading.file_groups import SPARE_BYTES, Group, Part
from aqltelemetry.reading.row_parser import RowParser
from aqltelemetry.reading.rows import Rows, join
from aqltelemetry.sinks.account import read_accepted
from aqltelemetry.sinks.archives import Member
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.system import syscalls


class Content(NamedTuple):
    """The content of a CSV file: its rows, and what the archive says about it."""

    member: Member
    rows: Rows


class UnfitError(ValueError):
    """Raised when a file is not exactly as a recording writes it; it stays a CSV file."""


def read_csv_file(path: str, name: FileName) -> Content:
    """Return the content of a published file.

    Raises:
        FileNotFoundError: It was removed.
        OSError: It can't be read, or is damaged.
        UnfitError: It is not as a recording writes it.
    """
    fd = syscalls.open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        text = b"".join(read_text(fd, path))
    finally:
        syscalls.close(fd)
    if not text.startswith(CSV_HEADER) or not text.endswith(b"\n"):
        raise UnfitError("it does not begin with a header and end with a line end")
    rows = _parsed(text, name)
    lines = text.count(b"\n") - 1
    if len(rows) != lines or {process.pid for process in rows.processes} - {name.pid}:
        raise UnfitError("a line is not a row of the process in its name")
    if not all(_is_text(label) for label in rows.labels):
        raise UnfitError("a label is not UTF-8")
    amount = read_accepted(text) if name.prefix == ACCOUNT else 1
    return Content(Member(name, len(rows), checksum(rows), amount), rows)


def _parsed(text: bytes, name: FileName) -> Rows:
    reasons: list[str] = []

    def leave_out(_name: str, reason: str) -> None:
        reasons.append(reason)

    body = bytearray(text[len(CSV_HEADER) :])
    end = len(body)
    body += bytes(SPARE_BYTES)
    group = Group(body, [Part(str(name), 0, end)], spaced=False)
    found = join([*RowParser(leave_out).parse(group)])
    if reasons:
        raise UnfitError(reasons[0])
    return found


def _is_text(label: str) -> bool:
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True
