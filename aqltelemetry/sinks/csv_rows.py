"""Formats columns of observations as CSV text, with integer arithmetic only.

In pure Python, one template for a block of rows, filled by one `%`, is several times as fast as
a statement per row. The interpreter lock is released after each block.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from aqltelemetry.observation import Batch, Column, Kind, quote_field
from aqltelemetry.system.clock import NS_PER_S, yield_gil
from aqltelemetry.system.extensions import load

compiled: Any = load(__name__)
"""The compiled twin, or None."""

_BLOCK_ROWS = 512
# Rows between two releases of the interpreter lock; starting a column takes as long as
# `_COLUMN_ROWS` rows.
_YIELD_ROWS = 256
# Small blocks are joined to this size, since a batch may have thousands of columns.
_GATHERED_BYTES = 32 << 10
_COLUMN_ROWS = 8
# Blocks that the extension formats at a time, in about 0.2 ms and without the interpreter lock;
# and how many of its rows hold that lock as long as one row in pure Python does.
_COMPILED_BLOCKS = 16
_COMPILED_SPEED = 64
_SLACK_BYTES = 64
# A timepoint of 20 characters and a float of 25, with commas.
_NUMBERS_BYTES = 48
_PIECES = 4


class Block(NamedTuple):
    """Rows as CSV text, their number, and the first and last of their timepoints.

    `at` is the offset of the text in a `Memory`, or None if it is not in one.
    """

    text: bytes | memoryview
    rows: int
    from_ns: int
    to_ns: int
    at: int | None = None


_WriteBlocks: TypeAlias = "Callable[[Column, bytes, int, _Pace, Memory], Iterator[Block]]"


class _Pace:
    """Calls `yield_gil` after each `_YIELD_ROWS` rows, across columns."""

    def __init__(self, yield_gil: Callable[[], None]) -> None:
        self._yield_gil = yield_gil
        self._rows = _YIELD_ROWS

    def step(self, rows: int) -> None:
        """Count some formatted rows."""
        self._rows += rows
        if self._rows >= _YIELD_ROWS:
            self._rows = 0
            self._yield_gil()


class Memory:
    """A buffer for the text of one batch, which is reused for the next one.

    Allocating new pages would cost more than formatting the text.
    """

    def __init__(self) -> None:
        self._view = memoryview(b"")
        self._end = 0

    def clear(self, size: int) -> None:
        """Discard the text, and make room for `size` bytes."""
        self._end = 0
        if size > len(self._view):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._view = memoryview(mmap.mmap(-1, size, flags=flags))

    def release(self) -> None:
        """Free the memory; its text must not be in use."""
        self._view = memoryview(b"")

    def write(self, column: Column, tail: bytes, rows: int) -> Sequence[Block] | None:
        """Format a column with the extension; None if only pure Python can do it."""
        typecode = "q" if column.series.kind is Kind.NANOSECONDS else "d"
        try:
            timepoints, values = _array("q", column.timepoints_ns), _array(typecode, column.values)
        except (OverflowError, TypeError):
            return None
        found = compiled.format_rows(timepoints, values, tail, rows, self._view, self._end)
        if found is None:
            return None
        self._end = found[-1][1]
        counts = (min(rows, len(timepoints) - start) for start in range(0, len(timepoints), rows))
        return [
            Block(self._view[begin:end], count, from_ns, to_ns, begin)
            for count, (begin, end, from_ns, to_ns) in zip(counts, found, strict=True)
        ]


def joined(blocks: Iterable[Block]) -> Iterator[bytes | memoryview]:
    """Yield the texts of blocks; adjacent texts in a memory are yielded as one."""
    run: list[Block] = []
    for block in blocks:
        if run and (block.at is None or block.at != (run[-1].at or 0) + len(run[-1].text)):
            yield _piece(run)
            run = []
        if block.at is None:
            yield block.text
        else:
            run.append(block)
    if run:
        yield _piece(run)


def _piece(run: Sequence[Block]) -> memoryview:
    whole = memoryview(run[0].text).obj
    begin, end = run[0].at or 0, (run[-1].at or 0) + len(run[-1].text)
    return memoryview(whole)[begin:end]


def format_batch(
    batch: Batch, yield_gil: Callable[[], None] = yield_gil, memory: Memory | None = None
) -> dict[str, list[Block]]:
    """Format a batch: return its rows by file prefix, sorted by label.

    The text may be in `memory`, where the next call overwrites it. A block is not larger than
    a quarter of the batch's `max_file_bytes`, unless it is a single row. The same batch always
    gives the same blocks. `yield_gil` is called often, to release the interpreter lock.
    """
    texts: dict[str, list[Block]] = {}
    memory = memory or Memory()
    memory.clear(_SLACK_BYTES + sum(_max_bytes(column, batch.pid) for column in batch.columns))
    columns = sorted(batch.columns, key=lambda column: column.series)
    pace = _Pace(yield_gil)
    pace.step(0)
    max_bytes = min(_GATHERED_BYTES, batch.max_file_bytes // _PIECES)
    for prefix, group in groupby(columns, key=lambda column: column.series.prefix):
        blocks = (block for column in group for block in _blocks(column, batch, pace, memory))
        texts[prefix] = list(_gathered(blocks, max_bytes))
    return texts


def _gathered(blocks: Iterable[Block], max_bytes: int) -> Iterator[Block]:
    """Yield the same text, with small adjacent blocks joined."""
    run: list[Block] = []
    size = 0
    for block in blocks:
        if run and (size >= max_bytes // 2 or size + len(block.text) > max_bytes):
            yield _one(run)
            run, size = [], 0
        run.append(block)
        size += len(block.text)
    if run:
        yield _one(run)


def _one(run: Sequence[Block]) -> Block:
    if len(run) == 1:
        return run[0]
    texts = list(joined(run))
    rows = sum(block.rows for block in run)
    from_ns, to_ns = min(block.from_ns for block in run), max(block.to_ns for block in run)
    if len(texts) == 1:
        return Block(texts[0], rows, from_ns, to_ns, run[0].at)
    return Block(b"".join(texts), rows, from_ns, to_ns)


def _max_bytes(column: Column, pid: int) -> int:
    return len(column.timepoints_ns) * (_NUMBERS_BYTES + len(_tail(column.series.label, pid)))


def _blocks(column: Column, batch: Batch, pace: _Pace, memory: Memory) -> Iterator[Block]:
    tail = _tail(column.series.label, batch.pid)
    row_bytes = _NUMBERS_BYTES + len(tail)
    pace.step(_COLUMN_ROWS)
    rows = max(1, min(_BLOCK_ROWS, batch.max_file_bytes // _PIECES // row_bytes))
    yield from _write_blocks(column, tail, rows, pace, memory)


def _compiled_blocks(
    column: Column, tail: bytes, rows: int, pace: _Pace, memory: Memory
) -> Iterator[Block]:
    for piece in _pieces(column, rows * _COMPILED_BLOCKS):
        found = memory.write(piece, tail, rows)
        if found is None:
            yield from _pure_blocks(piece, tail, rows, pace, memory)
        else:
            yield from found
            pace.step(len(piece.values) // _COMPILED_SPEED)


def _pure_blocks(column: Column, tail: bytes, rows: int, pace: _Pace, _: Memory) -> Iterator[Block]:
    template = tail.decode().replace("%", "%%")
    write = _durations if column.series.kind is Kind.NANOSECONDS else _floats
    for piece in _pieces(column, rows):
        timepoints = piece.timepoints_ns
        text = write(timepoints, piece.values, template).encode()
        yield Block(text, len(timepoints), min(timepoints), max(timepoints))
        pace.step(len(timepoints))


_write_blocks: _WriteBlocks = _pure_blocks if compiled is None else _compiled_blocks


def _pieces(column: Column, rows: int) -> Iterator[Column]:
    if len(column.values) <= rows:
        yield column
        return
    for start in range(0, len(column.values), rows):
        stop = start + rows
        yield Column(column.series, column.timepoints_ns[start:stop], column.values[start:stop])


@lru_cache(16_384)
def _tail(label: str, pid: int) -> bytes:
    """Return the end of each row of a series: label and PID."""
    return f",{quote_field(label)},{pid}\n".encode()


def _array(typecode: str, numbers: Sequence[float]) -> array[Any]:
    if isinstance(numbers, array) and numbers.typecode == typecode:
        return numbers
    if typecode == "d" and any(number.__class__ is not float for number in numbers):
        raise TypeError(typecode)  # an integer among floats is written as an integer
    return array(typecode, numbers)


def _floats(timepoints: Sequence[int], values: Sequence[float], tail: str) -> str:
    return _fill("%d,%r" + tail, timepoints, values)


def _durations(timepoints: Sequence[int], values: Sequence[float], tail: str) -> str:
    if min(values) < 0:
        # A monotonic clock gives none, but a program may record one.
        signs = ["-" if value < 0 else "" for value in values]
        whole, rest = _split([abs(value) for value in values])
        return _fill("%d,%s%d.%09d" + tail, timepoints, signs, whole, rest)
    if max(values) < NS_PER_S:
        return _fill("%d,0.%09d" + tail, timepoints, values)
    return _fill("%d,%d.%09d" + tail, timepoints, *_split(values))


def _split(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    return (
        [value // NS_PER_S for value in values],
        [value % NS_PER_S for value in values],
    )


def _fill(template: str, *columns: Sequence[object]) -> str:
    rows, width = len(columns[0]), len(columns)
    cells: list[object] = [None] * (rows * width)
    for index, column in enumerate(columns):
        cells[index::width] = column
    return template * rows % tuple(cells)
