from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from aqltelemetry.observation import CSV_HEADER, Batch, Column, Kind, SegmentId, Series
from aqltelemetry.sinks import csv_file, file_names
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system import syscalls
from aqltelemetry.system.threads import WorkerThread
from fakes import EPOCH_NS

_WRITER = "0123456789abcdef"
Rows = Callable[[str], list[dict[str, str]]]


@pytest.fixture
def sink(directory: Path, thread: WorkerThread) -> CsvSink:
    directory.mkdir()
    return _sink(directory, thread)


def _sink(directory: Path, thread: WorkerThread) -> CsvSink:
    return CsvSink(str(directory), thread, Retention(str(directory), 1 << 40, 10**9))


def _batch(
    sequence: int,
    rows: int = 3,
    *,
    prefixes: tuple[str, ...] = ("duration",),
    label: str = "/version [GET]",
    writer: str = _WRITER,
    max_file_bytes: int = 16 << 20,
    recovered: bool = False,
) -> Batch:
    first = EPOCH_NS + sequence * 1_000_000
    columns = [
        Column(
            Series(prefix, label, Kind.NANOSECONDS), range(first, first + rows), [sequence] * rows
        )
        for prefix in prefixes
    ]
    return Batch(SegmentId(writer, sequence), 4711, max_file_bytes, columns, recovered)


async def test_a_large_text_is_written_completely_in_pieces(
    sink: CsvSink, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may run nothing else on a processor while it copies a piece."""
    rests: list[int] = []
    monkeypatch.setattr(csv_file, "yield_gil", lambda: rests.append(1))
    await sink.write(_batch(1, rows=80_000))
    await sink.flush()
    assert len(rests) >= 4
    assert len(rows("duration")) == 80_000


def _names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


async def test_nothing_is_visible_before_it_is_complete(sink: CsvSink, directory: Path) -> None:
    assert await sink.write(_batch(1)) == ()
    assert all(file_names.is_temporary(name) for name in _names(directory))
    await sink.close()


async def test_a_flush_publishes_all_written_batches(sink: CsvSink, directory: Path) -> None:
    batches = [_batch(1), _batch(2)]
    for batch in batches:
        await sink.write(batch)
    assert await sink.flush() == [batch.segment for batch in batches]
    (name,) = _names(directory)
    parsed = file_names.parse(name)
    assert parsed is not None
    assert (parsed.first, parsed.last, parsed.part, parsed.pid) == (1, 2, 0, 4711)
    data = (directory / name).read_bytes()
    assert data.startswith(CSV_HEADER)
    assert data.count(b"\n") == 7
    assert (directory / name).stat().st_mode & 0o777 == 0o640


async def test_the_name_spans_the_timepoints(sink: CsvSink, rows: Rows, directory: Path) -> None:
    await sink.write(_batch(5, 100))
    await sink.flush()
    parsed = file_names.parse(_names(directory)[0])
    assert parsed is not None
    times = [int(row["Timepoint"]) for row in rows("duration")]
    assert parsed.from_ns <= min(times) <= max(times) < parsed.to_ns


async def test_each_prefix_has_separate_files(
    sink: CsvSink, counts: Callable[[str], Counter[str]]
) -> None:
    await sink.write(_batch(1, prefixes=("duration", "runtime")))
    await sink.write(_batch(2, prefixes=("runtime", "mine")))
    await sink.flush()
    assert [counts(prefix).total() for prefix in ("duration", "runtime", "mine")] == [3, 6, 3]


async def test_a_flush_of_nothing_publishes_nothing(sink: CsvSink, directory: Path) -> None:
    assert await sink.flush() == ()
    await sink.write(_batch(1, 0, prefixes=()))
    assert await sink.flush() == [(_WRITER, 1)]
    assert _names(directory) == []


@pytest.mark.parametrize("rows_of_each", [1, 40, 700])
async def test_no_file_exceeds_the_rotation_size(
    sink: CsvSink, directory: Path, rows: Rows, rows_of_each: int
) -> None:
    kept: list[SegmentId] = []
    for sequence in range(1, 30):
        kept += await sink.write(
            _batch(sequence, rows_of_each, max_file_bytes=4096, prefixes=("duration", "runtime"))
        )
    kept += await sink.flush()
    assert kept == [(_WRITER, sequence) for sequence in range(1, 30)]
    assert max(path.stat().st_size for path in directory.iterdir()) <= 4096
    assert len(rows("duration")) == len(rows("runtime")) == 29 * rows_of_each


async def test_a_row_larger_than_a_file_has_its_own_file(sink: CsvSink, rows: Rows) -> None:
    await sink.write(_batch(1, 3, label="x" * 200, max_file_bytes=100))
    await sink.flush()
    assert len(rows("duration")) == 3


async def test_segments_of_two_writers_are_in_separate_files(
    sink: CsvSink, directory: Path
) -> None:
    await sink.write(_batch(1))
    assert await sink.write(_batch(1, writer="f" * 16)) == [(_WRITER, 1)]
    await sink.flush()
    assert len(_names(directory)) == 2


async def test_recovered_segments_are_published_one_by_one(sink: CsvSink, directory: Path) -> None:
    """So a process that recovers some of them again uses the same names."""
    for sequence in (1, 2, 3):
        await sink.write(_batch(sequence, recovered=True))
    await sink.flush()
    spans = [(name.first, name.last) for name in map(file_names.parse, _names(directory)) if name]
    assert spans == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("published", ["alone", "with others"])
async def test_files_published_before_a_crash_are_not_published_again(
    sink: CsvSink, directory: Path, thread: WorkerThread, rows: Rows, published: str
) -> None:
    """A process is killed after publishing its durations, before its other series."""
    for sequence in (1, 2) if published == "with others" else (2,):
        await sink.write(_batch(sequence))
    await sink.flush()
    before = len(rows("duration"))
    other = _sink(directory, thread)
    await other.write(_batch(2, prefixes=("duration", "runtime"), recovered=True))
    assert await other.flush() == [(_WRITER, 2)]
    assert len(rows("duration")) == before
    assert len(rows("runtime")) == 3


async def test_every_part_of_a_large_segment_is_published_once(
    sink: CsvSink, directory: Path, thread: WorkerThread, rows: Rows
) -> None:
    batch = _batch(1, 500, max_file_bytes=4096)
    await sink.write(batch)
    await sink.flush()
    (directory / _names(directory)[2]).unlink()  # as if its process had died before that one
    other = _sink(directory, thread)
    await other.write(_batch(1, 500, max_file_bytes=4096, recovered=True))
    await other.flush()
    assert len(rows("duration")) == 500


async def test_a_removed_directory_is_created_again(
    sink: CsvSink, directory: Path, rows: Rows
) -> None:
    directory.rmdir()
    await sink.write(_batch(1))
    await sink.flush()
    assert len(rows("duration")) == 3


async def test_close_removes_unpublished_files(sink: CsvSink, directory: Path) -> None:
    await sink.write(_batch(1))
    await sink.close()
    assert _names(directory) == []


_CALLS = (
    (syscalls, "open_file"),
    (syscalls, "link"),
    (syscalls, "look_at"),
    (AsyncBufferedIOBase, "writelines"),
)


@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize(("place", "call"), _CALLS)
@pytest.mark.parametrize("persistent", [False, True])
async def test_a_failing_system_call_loses_and_duplicates_nothing(
    sink: CsvSink,
    directory: Path,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    *,
    nth: int,
    place: object,
    call: str,
    persistent: bool,
) -> None:
    """The n-th call of one kind fails, once or repeatedly; then the disk works again."""
    calls = 0
    real = getattr(place, call)

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth or (persistent and calls > nth):
            raise OSError(errno.ENOSPC, "no space left")
        return real(*args, **kwargs)

    todo = [
        _batch(n, 300, prefixes=("duration", "runtime"), max_file_bytes=4096) for n in (1, 2, 3)
    ]
    kept: list[SegmentId] = []
    monkeypatch.setattr(place, call, failing)
    for attempt in range(6):
        if attempt == 4:
            monkeypatch.undo()
        try:
            for batch in todo:
                kept += await sink.write(batch)
            kept += await sink.flush()
        except OSError:
            pass
        todo = [batch for batch in todo if batch.segment not in kept]
    assert todo == []
    assert calls >= nth
    await sink.close()
    assert len(rows("duration")) == len(rows("runtime")) == 900
    assert all(file_names.parse(name) for name in _names(directory))


async def test_a_write_cancelled_while_a_file_is_created_leaves_no_file(
    directory: Path, thread: WorkerThread
) -> None:
    directory.mkdir()
    sink = _sink(directory, thread)
    gate: Future[None] = Future()
    made = asyncio.Event()
    loop = asyncio.get_running_loop()

    def gated(path: str, flags: int) -> int:
        loop.call_soon_threadsafe(made.set)
        gate.result()
        return os.open(path, flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "_opener", gated)
        task = asyncio.create_task(sink.write(_batch(1)))
        await made.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set_result(None)
        await sink.close()
    assert _names(directory) == []


async def test_a_write_cancelled_at_any_await_loses_nothing_and_leaves_no_file(
    directory: Path, thread: WorkerThread, rows: Rows
) -> None:
    directory.mkdir()

    async def work(sink: CsvSink) -> None:
        await sink.write(_batch(1, prefixes=("duration", "runtime")))
        await sink.flush()

    for steps in range(40):
        sink = _sink(directory, thread)
        task = asyncio.create_task(work(sink))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sink.close()
        assert all(file_names.parse(name) for name in _names(directory))
    sink = _sink(directory, thread)
    await work(sink)
    assert len(rows("duration")) == len(rows("runtime")) == 3


async def test_a_file_that_can_not_be_synchronised_is_written_again_as_another_file(
    directory: Path, thread: WorkerThread, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    retention = Retention(str(directory), 1 << 40, 10**9)
    sink = CsvSink(str(directory), thread, retention, with_fsync=True)
    tried: list[str] = []

    def failing(fd: int) -> None:
        tried.append(os.readlink(f"/proc/self/fd/{fd}"))
        if len(tried) == 1:
            raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", failing)
    await sink.write(_batch(1))
    with pytest.raises(OSError, match="broken"):
        await sink.flush()
    assert rows("duration") == []
    await sink.write(_batch(1))
    assert await sink.flush() == [SegmentId(_WRITER, 1)]
    await sink.close()
    assert len(rows("duration")) == 3
    assert tried.count(tried[0]) == 1


async def test_publishing_neither_waits_for_retention_nor_fails_with_it(
    directory: Path, thread: WorkerThread, counts: Callable[[str], Counter[str]]
) -> None:
    directory.mkdir()
    jobs: list[Callable[[], None]] = []
    retention = Retention(str(directory), 1, 10**9, start=jobs.append)
    sink = CsvSink(str(directory), thread, retention)
    for number in (1, 2, 3):
        await sink.write(_batch(number))
        assert await sink.flush() == [(_WRITER, number)]  # while the sweep has not begun
    assert counts("duration").total() == 9
    closing = asyncio.ensure_future(sink.close())
    await asyncio.sleep(0)
    assert not closing.done()
    while not closing.done():  # by a second sweep, for what was published since the first
        if jobs:
            jobs.pop(0)()
        await asyncio.sleep(0)
    assert counts("duration").total() == 0


async def test_a_cancelled_close_does_not_stop_retention(
    directory: Path, thread: WorkerThread
) -> None:
    directory.mkdir()
    jobs: list[Callable[[], None]] = []
    sink = CsvSink(str(directory), thread, Retention(str(directory), 1, 10**9, start=jobs.append))
    await sink.write(_batch(1))
    await sink.flush()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await sink.close()
    jobs.pop(0)()
    closing = asyncio.ensure_future(sink.close())
    while not closing.done():
        if jobs:
            jobs.pop(0)()
        await asyncio.sleep(0)
