"""The files that are being written and will be published together, one or more per prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from aiofiles.threadpool.binary import AsyncBufferedIOBase

from aqltelemetry.observation import CSV_HEADER, Batch, SegmentId
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import AccountBuilder
from aqltelemetry.sinks.csv_rows import Block
from aqltelemetry.sinks.file_names import FileName
from aqltelemetry.sinks.publication import Publication


class File:
    """A file that is being written, with rows of one prefix; `part` as in `FileName`.

    `size_bytes` counts what was given to `file`; the timepoints are in `from_ns` to `to_ns`.
    """

    __slots__ = ("file", "from_ns", "part", "path", "prefix", "size_bytes", "to_ns")

    def __init__(self, prefix: str, part: int, path: str, file: AsyncBufferedIOBase) -> None:
        self.prefix = prefix
        self.part = part
        self.path = path
        self.file = file
        self.size_bytes = 0
        self.from_ns = 2**63
        self.to_ns = 0


class Generation:
    """The files that contain the same consecutive segments of a writer.

    `files` maps a prefix to the file that is being written, `full` are those that are
    complete. `alone` says that no other segment may be added. `account` is None if an account
    of one of these segments was published before.
    """

    def __init__(
        self, writer: str, pid: int, account: AccountBuilder | None, *, alone: bool
    ) -> None:
        self.writer = writer
        self.pid = pid
        self.alone = alone
        self.account = account
        self.segments: list[SegmentId] = []
        self.files: dict[str, File] = {}
        self.full: list[File] = []

    def takes(self, batch: Batch, texts: Mapping[str, Sequence[Block]], *, alone: bool) -> bool:
        """Return whether a batch may be added: in order, and no file becomes too large."""
        if alone or self.alone or self.full:
            return False
        if (self.writer, self.pid) != (batch.segment.writer, batch.pid):
            return False
        if self.segments[-1].sequence >= batch.segment.sequence:
            return False
        return all(
            self._size_bytes(prefix) + size(blocks) <= batch.max_file_bytes
            for prefix, blocks in texts.items()
        )

    def add(self, batch: Batch, texts: Mapping[str, Sequence[Block]]) -> None:
        """Note that a batch is in the files; `texts` are all of its rows by prefix."""
        self.segments.append(batch.segment)
        if self.account is not None:
            self.account.add(batch.account, texts)

    def _size_bytes(self, prefix: str) -> int:
        return self.files[prefix].size_bytes if prefix in self.files else len(CSV_HEADER)

    def all_files(self) -> Iterable[File]:
        """Return the files in the order of their publication."""
        return (*self.full, *self.files.values())

    def account_block(self, removed: int) -> Block | None:
        """Return the account of the files, or None if there is none; see `AccountBuilder`."""
        if self.account is None:
            return None
        count = Counter(file.prefix for file in self.all_files())
        return self.account.block(self.pid, count, removed)

    def publications(self) -> list[Publication]:
        """Return each file with its final name."""
        first, last = self.segments[0].sequence, self.segments[-1].sequence
        return [
            Publication(
                file.path,
                FileName(
                    file.prefix,
                    *file_names.enclosing(file.from_ns, file.to_ns),
                    self.pid,
                    self.writer,
                    first,
                    last,
                    file.part,
                ),
            )
            for file in self.all_files()
        ]


def size(blocks: Sequence[Block]) -> int:
    """Return the size of text in bytes."""
    return sum(len(block.text) for block in blocks)
