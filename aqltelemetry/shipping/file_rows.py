"""Reads the rows of a file that is shipped, as the bytes that were published."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.reading.compression import read_text
from aqltelemetry.shipping.destination import ShippedFile


class RefusedFileError(Exception):
    """Raised for a file that can't be shipped as it is; the text is the reason."""


def read_rows(file: ShippedFile) -> bytes:
    """Return the rows of a file, decompressed, without its header; each ends with a line end.

    Raises RefusedFileError if the file is gone, damaged, or has another header.
    """
    try:
        text = b"".join(_pieces(file))
    except (OSError, CompressedFileError) as exc:
        raise RefusedFileError(str(exc)) from exc
    _check(text)
    rows = text[len(CSV_HEADER) :]
    return rows if not rows or rows.endswith(b"\n") else rows + b"\n"


def check_header(file: ShippedFile) -> None:
    """Raise RefusedFileError if a file is gone, damaged at its start, or has another header."""
    try:
        with closing(_pieces(file)) as pieces:
            head = b""
            for piece in pieces:
                head += piece
                if len(head) >= len(CSV_HEADER):
                    break
    except (OSError, CompressedFileError) as exc:
        raise RefusedFileError(str(exc)) from exc
    _check(head)


def _check(text: bytes) -> None:
    if not text.startswith(CSV_HEADER):
        header = text.partition(b"\n")[0][:80]
        raise RefusedFileError(f"its header is {header!r}")


def _pieces(file: ShippedFile) -> Generator[bytes, None, None]:
    fd = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield from read_text(fd, file.path)
    finally:
        os.close(fd)
