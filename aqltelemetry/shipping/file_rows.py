"""Reads the rows of a file that is shipped, as the bytes that were published."""

from __future__ import annotations

import csv
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NamedTuple

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.reading.compression import read_text
from aqltelemetry.shipping.destination import FileGone, ShippedFile
from aqltelemetry.system import syscalls

_PIECE_BYTES = 256 << 10


class RefusedFileError(Exception):
    """Raised for a file that can't be shipped as it is; the text is the reason."""


class FirstRow(NamedTuple):
    """Time and label of the row that a file begins with."""

    at_ns: int
    label: str


def row_pieces(file: ShippedFile) -> Generator[bytes, None, None]:
    """Yield the rows of a file, decompressed, without its header, in pieces of whole lines.

    Raises:
        FileGone: The file does not exist any more.
        RefusedFileError: It is damaged, can't be read, or has another header.
    """
    try:
        fd = syscalls.open_file(file.path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise FileGone(file.name) from exc
    except OSError as exc:
        raise RefusedFileError(f"it can't be read: {exc.strerror}") from exc
    try:
        yield from _whole_lines(_without_header(read_text(fd, file.path, _PIECE_BYTES)))
    except CompressedFileError as exc:
        raise RefusedFileError(str(exc)) from exc
    except OSError as exc:
        raise RefusedFileError(f"it can't be read: {exc.strerror}") from exc
    finally:
        syscalls.close(fd)


def read_rows(file: ShippedFile) -> bytes:
    """Return the rows of a file; each ends with a line end. Raises as `row_pieces`."""
    return b"".join(row_pieces(file))


def count_rows(file: ShippedFile) -> int:
    """Return the number of rows of a file; raises as `row_pieces`."""
    return sum(piece.count(b"\n") for piece in row_pieces(file))


def first_row(file: ShippedFile) -> FirstRow | None:
    """Return the first row of a file; None if it has none, or one that can't be parsed.

    Raises as `row_pieces`, if the file is gone, damaged at its start, or has another header.
    """
    with closing(row_pieces(file)) as pieces:
        line = next(pieces, b"").partition(b"\n")[0]
    try:
        ((at, _, label, _),) = csv.reader([line.decode()])
        return FirstRow(int(at), label)
    except (ValueError, csv.Error):
        return None


def _without_header(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= len(CSV_HEADER):
            break
    if not first.startswith(CSV_HEADER):
        header = first.partition(b"\n")[0][:80]
        raise RefusedFileError(f"its header is {header!r}")
    yield first[len(CSV_HEADER) :]
    yield from pieces


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    left = b""
    for piece in pieces:
        text = left + piece if left else piece
        end = text.rfind(b"\n") + 1
        if end:
            yield text[:end]
        left = text[end:]
    if left:
        yield left + b"\n"
