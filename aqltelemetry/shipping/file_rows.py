"""Reads the rows of a file that is shipped, as the bytes that were published."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.reading.compression import read_text
from aqltelemetry.shipping.destination import FileGone, ShippedFile
from aqltelemetry.system import syscalls

_PIECE_BYTES = 256 << 10


class RefusedFileError(Exception):
    """Raised for a file that can't be shipped as it is; the text is the reason."""


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


def check_header(file: ShippedFile) -> None:
    """Raise as `row_pieces`, if a file is gone, damaged at its start, or has another header."""
    with closing(row_pieces(file)) as pieces:
        next(pieces, b"")


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
