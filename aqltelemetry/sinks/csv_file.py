"""The CSV sink: writes batches into files that are published atomically and never change."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import Any, cast

import aiofiles
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from aqltelemetry.observation import ACCOUNT, CSV_HEADER, Batch, SegmentId
from aqltelemetry.sinks import file_names
from aqltelemetry.sinks.account import AccountBuilder
from aqltelemetry.sinks.csv_rows import Block, Memory, format_batch, joined
from aqltelemetry.sinks.generation import File, Generation
from aqltelemetry.sinks.publication import publish
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import yield_gil

_BUFFER_BYTES = 128 << 10  # less than a piece, which is then copied by the kernel alone
_PIECE_BYTES = 512 << 10
_HEADER = Block(CSV_HEADER, 0, 2**63, 0)
_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o750


class CsvSink:
    """Writes `<prefix>.*.csv` into a directory; see `file_names` for the names.

    Files are written under temporary names and appear complete, under names that depend on
    the segments in them: a segment that is published again, by a process that recovers it
    after a crash, appears once. A file is published by `flush`, or before it would exceed a
    batch's `max_file_bytes`. All formatting and file operations run on `executor`, one job at
    a time. `with_fsync` is the option of `Settings`.
    """

    def __init__(
        self,
        directory: str,
        executor: Executor,
        retention: Retention,
        *,
        with_fsync: bool = False,
    ) -> None:
        self._directory = directory
        self._with_fsync = with_fsync
        self._executor = executor
        self._retention = retention
        self._publisher = os.urandom(8).hex()
        self._number = 0
        self._generation: Generation | None = None
        # Segments that may be partly published, by a process that died or an attempt that
        # failed.
        self._suspects: set[SegmentId] = set()
        self._ranges: tuple[str, frozenset[tuple[str, int, int]]] | None = None
        self._cleaning: set[asyncio.Task[None]] = set()
        # May be overwritten, since formatting and writing alternate on one thread.
        self._memory = Memory()

    def __repr__(self) -> str:
        return f"CsvSink({self._directory!r})"

    async def write(self, batch: Batch) -> Sequence[SegmentId]:
        """Add a batch to the files; return the segments that were published to make room."""
        with self._abandoned_on_failure():
            formatting = self._executor.submit(format_batch, batch, memory=self._memory)
            all_texts = texts = await asyncio.wrap_future(formatting)
            alone = batch.recovered or batch.segment in self._suspects
            covered: frozenset[str] = frozenset()
            if alone:
                searching = self._executor.submit(self._covered, batch.segment)
                covered = await asyncio.wrap_future(searching)
                texts = {prefix: text for prefix, text in texts.items() if prefix not in covered}
            published: Sequence[SegmentId] = ()
            generation = self._generation
            if generation is not None and not generation.takes(batch, texts, alone=alone):
                published = await self._publish()
                generation = None
            if generation is None:
                account = None if ACCOUNT in covered else AccountBuilder()
                generation = Generation(batch.segment.writer, batch.pid, account, alone=alone)
                self._generation = generation
            generation.add(batch, all_texts)
            for prefix, blocks in texts.items():
                await self._append(generation, prefix, blocks, batch.max_file_bytes)
        return published

    async def flush(self) -> Sequence[SegmentId]:
        """Publish the files; return the segments in them."""
        with self._abandoned_on_failure():
            published = await self._publish()
        self._memory.release()
        return published

    async def close(self) -> None:
        """Remove unpublished files, whose rows are still in the journal.

        Waits for retention, whose only sweep in a short process may be at the end.
        """
        self._abandon()
        if self._cleaning:
            await asyncio.wait(self._cleaning)
        if self._retention.sweeping is not None:
            await asyncio.wrap_future(self._retention.sweeping)
            self._retention.added(0)  # for files published during the sweep
            await asyncio.wrap_future(self._retention.sweeping)

    async def _append(
        self, generation: Generation, prefix: str, blocks: Sequence[Block], max_bytes: int
    ) -> None:
        chunk: list[Block] = []
        file = generation.files.get(prefix)
        for block in blocks:
            if file is not None and file.size_bytes + len(block.text) > max_bytes:
                await file.file.writelines(_in_pieces(joined(chunk)))
                generation.full.append(generation.files.pop(prefix))
                file = None
            if file is None:
                part = sum(full.prefix == prefix for full in generation.full)
                file = generation.files[prefix] = await self._open(prefix, part)
                file.size_bytes = len(CSV_HEADER)
                chunk = [_HEADER]
            chunk.append(block)
            file.size_bytes += len(block.text)
            file.from_ns = min(file.from_ns, block.from_ns)
            file.to_ns = max(file.to_ns, block.to_ns)
        if file is not None:
            await file.file.writelines(_in_pieces(joined(chunk)))

    async def _open(self, prefix: str, part: int) -> File:
        self._number += 1
        name = file_names.temporary(prefix, self._publisher, self._number)
        path = os.path.join(self._directory, name)
        try:
            return File(prefix, part, path, await self._create(path))
        except FileNotFoundError:
            # The directory was removed; recording continues.
            making = self._executor.submit(
                syscalls.make_directories, self._directory, _DIRECTORY_MODE
            )
            await asyncio.wrap_future(making)
            return File(prefix, part, path, await self._create(path))

    async def _create(self, path: str) -> AsyncBufferedIOBase:
        # Of an unbuffered file the type would be another one.
        opened = aiofiles.open(path, "xb", _BUFFER_BYTES, opener=_opener, executor=self._executor)
        opening = asyncio.ensure_future(cast("Awaitable[AsyncBufferedIOBase]", opened))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread creates the file nevertheless.
            self._clean_up(self._discard(path, opening))
            raise

    async def _publish(self) -> Sequence[SegmentId]:
        generation = self._generation
        if generation is None:
            return ()
        # Published last: where an account exists, so do the files that it describes.
        block = generation.account_block(0 if generation.alone else self._retention.removed)
        if block is not None:
            await self._append(generation, ACCOUNT, [block], sys.maxsize)
        for file in generation.all_files():
            await file.file.close()
        publications = generation.publications()
        self._suspects.update(generation.segments)
        publishing = self._executor.submit(
            publish, self._directory, publications, with_fsync=self._with_fsync
        )
        self._retention.added(await asyncio.wrap_future(publishing))
        self._suspects.difference_update(generation.segments)
        self._generation = None
        return generation.segments

    def _covered(self, segment: SegmentId) -> frozenset[str]:
        """Return the prefixes with a published file that contains this segment and others.

        A file of this segment alone is not searched for: publishing it again uses the same
        name. An account is, since the times in its name may differ.
        """
        if self._ranges is None or self._ranges[0] != segment.writer:
            self._ranges = (segment.writer, _published_ranges(self._directory, segment.writer))
        return frozenset(
            prefix
            for prefix, first, last in self._ranges[1]
            if first <= segment.sequence <= last and (first < last or prefix == ACCOUNT)
        )

    @contextmanager
    def _abandoned_on_failure(self) -> Iterator[None]:
        """Remove the unpublished files if the block raises an exception."""
        try:
            yield
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        generation, self._generation = self._generation, None
        self._ranges = None
        if generation is not None:
            for file in generation.all_files():
                self._clean_up(self._remove(file.path, file.file))

    def _clean_up(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _discard(self, path: str, opening: Awaitable[AsyncBufferedIOBase]) -> None:
        with suppress(OSError):
            await self._remove(path, await opening)

    async def _remove(self, path: str, file: AsyncBufferedIOBase) -> None:
        with suppress(OSError, ValueError):
            await file.close()
        with suppress(OSError):
            await asyncio.wrap_future(self._executor.submit(syscalls.unlink, path))


def _in_pieces(texts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """Yield small pieces, and let other threads run between them.

    The kernel may run nothing else on a processor while it copies a piece.
    """
    written = 0
    for text in texts:
        for start in range(0, len(text), _PIECE_BYTES):
            if written >= _PIECE_BYTES:
                written = 0
                yield_gil()
            piece = memoryview(text)[start : start + _PIECE_BYTES]
            written += len(piece)
            yield piece


def _opener(path: str, flags: int) -> int:
    return syscalls.open_file(path, flags, _FILE_MODE)


def _published_ranges(directory: str, writer: str) -> frozenset[tuple[str, int, int]]:
    try:
        names = syscalls.list_directory(directory)
    except FileNotFoundError:
        return frozenset()
    parsed = (file_names.parse(name) for name in names if writer in name)
    return frozenset(
        (name.prefix, name.first, name.last)
        for name in parsed
        if name is not None and name.writer == writer
    )
