"""Reads the rows of many CSV files into one buffer, without their headers.

Starting a parser costs more than parsing a small file, so files are parsed in groups. The
rows of each file are read directly behind those of the previous one, and its header into a
separate buffer.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.observation import COLUMNS, CSV_HEADER, failed_label, quote_field
from aqltelemetry.reading.compression import is_compressed, read_text
from aqltelemetry.sinks import file_names

_GROUP_BYTES = 16 << 20
# Making a buffer costs more than reading a small file into it, so the first one is smaller.
_FIRST_BYTES = 256 << 10
_GROWTH = 4
# From a row with a searched label on, at least this much is parsed: to find where the rows of
# the label end would cost more.
_STRIDE_BYTES = 2 << 10
# A smaller file is parsed completely, or not at all.
_SMALL_BYTES = 16 << 10
# With more labels, searching takes longer than parsing everything.
_MAX_SEARCHED = 8
SPARE_BYTES = 64
"""Bytes behind the rows of a group, which a parser may read before it finds the end."""
GONE = "it was removed"
"""The reason to leave out a file that does not exist."""
_HEADER_BYTES = len(CSV_HEADER)
# Longer than any form of the header.
_MAX_HEADER_BYTES = 200
_QUOTE, _EMPTY = '"', '""'
_BOM = b"\xef\xbb\xbf"
# Without O_NONBLOCK, opening a pipe would wait for its other end.
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Part(NamedTuple):
    """Where the rows of a file are in a group."""

    name: str
    start: int
    end: int


class Group(NamedTuple):
    """Rows of several files at the start of `rows`; each file ends with a line end.

    `spaced` says that there may be a space after each comma. The buffer is reused for the
    next group.
    """

    rows: bytearray
    parts: Sequence[Part]
    spaced: bool

    @property
    def end(self) -> int:
        """Where the last row ends."""
        return self.parts[-1].end if self.parts else 0


class _Buffer:
    """A buffer that files are read into, one after the other."""

    def __init__(self, *, spaced: bool) -> None:
        self.rows = bytearray()
        self.view = memoryview(self.rows)
        self.spaced = spaced
        self.parts: list[Part] = []
        self.end = 0

    def add(self, name: str, size_bytes: int) -> None:
        """Add the `size_bytes` behind `end` as the rows of a file, and end their last line."""
        end = self.end + size_bytes
        if size_bytes and self.rows[end - 1] != ord("\n"):
            self.rows[end] = ord("\n")
            end += 1
        self.parts.append(Part(name, self.end, end))
        self.end = end

    def keep(self, spans: Iterable[tuple[int, int]]) -> None:
        """Keep only these spans of the last file's rows."""
        kept = b"".join(self.rows[first:last] for first, last in spans)
        name, start, _ = self.parts.pop()
        self.end = start + len(kept)
        self.rows[start : self.end] = kept
        self.parts.append(Part(name, start, self.end))

    def groups(self, needed_bytes: int) -> Iterator[Group]:
        """Yield the group of the files so far, if any; then make room for `needed_bytes`."""
        if self.parts:
            yield Group(self.rows, self.parts, self.spaced)
            self.parts, self.end = [], 0
        if len(self.rows) < needed_bytes + SPARE_BYTES:
            self.rows = bytearray(max(needed_bytes, _FIRST_BYTES) + SPARE_BYTES)
            self.view = memoryview(self.rows)

    def next_bytes(self) -> int:
        """Return the room for the group after this one: more than now, up to 16 MiB."""
        return min(_GROWTH * len(self.rows), _GROUP_BYTES)


class GroupReader:
    """Reads files in groups of at most 16 MiB, or of one larger file.

    If `labels` are given, most rows with other labels are left out, but for those of their
    outcomes, `<label> 5xx`. `leave_out` is called with the name of a file that is unreadable or
    not a telemetry file, and the reason, which is `GONE` for a file that was removed.
    """

    def __init__(
        self, labels: Collection[str] | None, leave_out: Callable[[str, str], None]
    ) -> None:
        self._leave_out = leave_out
        self._head = bytearray(_HEADER_BYTES)
        self._plain = _Buffer(spaced=False)
        self._spaced = _Buffer(spaced=True)
        self._searched: list[bytes] = []
        self._searched_quoted: list[bytes] = []
        if labels is not None and len(labels) <= _MAX_SEARCHED:
            texts = _beginnings(labels)
            self._searched = [*{field for text in texts for field in _begins_of_fields(text)}]
            # Other programs may quote every text.
            quoted = (_begin_of_field('"' + text.replace('"', '""') + '"') for text in texts)
            self._searched_quoted = [*{*self._searched, *quoted}]

    def groups(self, directory: str, names: Iterable[str]) -> Iterator[Group]:
        """Yield groups of whole files; files of the same style are in order."""
        yield from self._plain.groups(1)
        # Opening a file relative to a directory's descriptor takes half the time.
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                yield from self._add(name, directory_fd)
        finally:
            os.close(directory_fd)
        yield from self._plain.groups(0)
        yield from self._spaced.groups(0)

    def _add(self, name: str, directory_fd: int) -> Sequence[Group] | Iterator[Group]:
        try:
            if is_compressed(name):
                return self._add_text(name, _read_all(name, directory_fd))
            size_bytes = self._read(name, directory_fd)
        except (FileNotFoundError, CompressedFileError) as exc:
            return self._add_other_form(name, directory_fd, exc)
        except OSError as exc:
            self._leave_out(name, str(exc))
            return ()
        if size_bytes is None:
            return self._add_after_room(name, directory_fd)
        if self._head != CSV_HEADER:
            rest_bytes = max(size_bytes - _HEADER_BYTES, 0)
            start = self._plain.end
            text = self._head[:size_bytes] + self._plain.rows[start : start + rest_bytes]
            return self._add_text(name, text)
        self._plain.add(name, size_bytes - _HEADER_BYTES)
        if self._searched and file_names.writer(name):
            self._plain.keep(self._spans())
        return ()

    def _add_other_form(
        self, name: str, directory_fd: int, failure: OSError
    ) -> Sequence[Group] | Iterator[Group]:
        """Add a file that was compressed or decompressed meanwhile, under its other name."""
        for form in file_names.forms(name):
            try:
                text = _read_all(form, directory_fd)
            except OSError:
                continue
            return self._add_text(form, text)
        is_gone = isinstance(failure, FileNotFoundError)
        self._leave_out(name, GONE if is_gone else str(failure))
        return ()

    def _add_after_room(self, name: str, directory_fd: int) -> Iterator[Group]:
        """Yield the group, or enlarge the buffer, and add a file for which there was no room."""
        alone = not self._plain.end
        plain = self._plain
        yield from plain.groups(_GROWTH * len(plain.rows) if alone else plain.next_bytes())
        yield from self._add(name, directory_fd)

    def _read(self, name: str, directory_fd: int) -> int | None:
        """Read as many bytes as a header has, then the rest of a file.

        Returns the size of the file, or None if it is too large for the buffer.
        """
        head = self._head
        # One more byte is left for the end of the last line.
        room = self._plain.view[self._plain.end : -1 - SPARE_BYTES]
        fd = os.open(name, _OPEN_FLAGS, dir_fd=directory_fd)
        try:
            size_bytes = os.readv(fd, (head, room))
            if size_bytes < _HEADER_BYTES:
                head[size_bytes:] = bytes(_HEADER_BYTES - size_bytes)
                return size_bytes
            # Some file systems return fewer bytes than there are: read until the end.
            while left := room[size_bytes - _HEADER_BYTES :]:
                read = os.readv(fd, (left,))
                if not read:
                    return size_bytes
                size_bytes += read
        finally:
            os.close(fd)
        return None

    def _add_text(self, name: str, text: bytes | bytearray) -> Sequence[Group] | Iterator[Group]:
        """Add the text of a file if it begins with some form of the header."""
        header, _, rows = text.partition(b"\n")
        if not _is_header(header):
            self._leave_out(name, f"its header is {bytes(header[:80])!r}")
            return ()
        return self._add_rows(self._spaced if b", " in header else self._plain, name, rows)

    def _add_rows(self, buffer: _Buffer, name: str, rows: bytes | bytearray) -> Iterator[Group]:
        if buffer.end + len(rows) >= len(buffer.rows) - SPARE_BYTES:
            yield from buffer.groups(max(len(rows) + 1, buffer.next_bytes()))
        buffer.rows[buffer.end : buffer.end + len(rows)] = rows
        buffer.add(name, len(rows))
        if buffer is self._plain and self._searched and file_names.writer(name):
            buffer.keep(self._spans())

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Yield the spans of the last file that may contain rows with the searched labels."""
        rows, (_, start, end) = self._plain.rows, self._plain.parts[-1]
        has_quotes = rows.find(b'"', start, end) >= 0
        searched = self._searched_quoted if has_quotes else self._searched
        if end - start < _SMALL_BYTES:
            if any(rows.find(field, start, end) >= 0 for field in searched):
                yield start, end
            return
        last = start
        for first, until in sorted(_near(rows, start, end, searched)):
            if until > last:
                yield max(first, last), until
                last = until


def _near(
    rows: bytearray, start: int, end: int, fields: Iterable[bytes]
) -> Iterator[tuple[int, int]]:
    for field in fields:
        until = start
        while (at := rows.find(field, until, end)) >= 0:
            first = rows.rfind(b"\n", until, at) + 1 or until
            until = rows.find(b"\n", min(at + _STRIDE_BYTES, end - 1), end) + 1
            yield first, until


def _beginnings(labels: Collection[str]) -> set[str]:
    """Return the texts that labels and their outcomes begin with."""
    # A long label is shortened to make room for its outcome.
    shortened = (failed_label(label) for label in labels)
    return {*labels, *(each for each in shortened if not each.startswith(tuple(labels)))}


def _begins_of_fields(text: str) -> Iterator[bytes]:
    """Yield what the fields of a label and of its outcomes begin with."""
    yield _begin_of_field(quote_field(text))
    if text != text.strip(" "):
        # An outcome may have no space at its end, and other programs write no quotes for that.
        yield f",{text}".encode("utf-8", "surrogatepass")


def _begin_of_field(text: str) -> bytes:
    # The outcomes of the empty label begin in any way.
    begin = "" if text == _EMPTY else text.removesuffix(_QUOTE)
    return f",{begin}".encode("utf-8", "surrogatepass")


def _is_header(line: bytes | bytearray) -> bool:
    """Return whether a line names the columns: quoted or not, with or without a BOM."""
    text = line[:_MAX_HEADER_BYTES].removeprefix(_BOM).decode(errors="replace").strip()
    try:
        (names,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        return False
    return tuple(name.strip() for name in names) == COLUMNS


def _read_all(name: str, directory_fd: int) -> bytes:
    fd = os.open(name, _OPEN_FLAGS, dir_fd=directory_fd)
    try:
        return b"".join(read_text(fd, name))
    finally:
        os.close(fd)
