"""From columns of observations to CSV text, with integers all the way.

One template for a whole block of rows, filled by one `%`, is several times as
fast as a statement per row, and holds the interpreter lock only for as long as
a block takes.
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
# Between two rests; to begin a column takes as long as some rows of it.
_REST_ROWS = 256
# Whoever has a block to do with each column would have thousands of them.
_GATHERED_BYTES = 32 << 10
_COLUMN_ROWS = 8
# What the compiled twin writes in some 0.2 ms, in which it leaves the interpreter lock to
# others, and how many of its rows take as long as one of the pure twin's in what holds it.
_COMPILED_BLOCKS = 16
_COMPILED_SPEED = 64
_SLACK_BYTES = 64
# A timepoint of 20 characters and a float of 25, with their commas.
_NUMBERS_BYTES = 48
_PIECES = 4


class Block(NamedTuple):
    """Some rows as text, how many, and the first and last of their timepoints.

    `at` is where in a `Memory` the text is, None where it is by itself.
    """

    text: bytes | memoryview
    rows: int
    from_ns: int
    to_ns: int
    at: int | None = None


_WriteBlocks: TypeAlias = "Callable[[Column, bytes, int, _Pace, Memory], Iterator[Block]]"


class _Pace:
    """Rests after each so many rows, however many columns they are in."""

    def __init__(self, yield_gil: Callable[[], None]) -> None:
        self._yield_gil = yield_gil
        self._rows = _REST_ROWS

    def step(self, rows: int) -> None:
        """Have some rows done."""
        self._rows += rows
        if self._rows >= _REST_ROWS:
            self._rows = 0
            self._yield_gil()


class Memory:
    """Holds the text of one batch after the other: new pages cost more than the text.

    Text that is in it is overwritten by the next batch's.
    """

    def __init__(self) -> None:
        self._view = memoryview(b"")
        self._end = 0

    def clear(self, size: int) -> None:
        """Begin anew, with room for so many bytes."""
        self._end = 0
        if size > len(self._view):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._view = memoryview(mmap.mmap(-1, size, flags=flags))

    def release(self) -> None:
        """Give the pages back, once no text in them is used any more."""
        self._view = memoryview(b"")

    def write(self, column: Column, tail: bytes, rows: int) -> Sequence[Block] | None:
        """Return a column in blocks; None where only the pure twin can write them."""
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
    """Yield the texts of some blocks, those that follow each other in a memory in one piece."""
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
    """Return the rows of a batch by file prefix, those of a label together.

    They may be in `memory`, and be overwritten by the next call with it. No block is
    larger than a quarter of the batch's `max_file_bytes`, but for one of a single row.
    The same batch always gives the same blocks. `yield_gil` is called between pieces of the
    work that hold the interpreter's lock.
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
    """Yield the same text, with small blocks that follow each other as one."""
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
    """Return the end of each row of a series, which is the same for all of its batches."""
    return f",{quote_field(label)},{pid}\n".encode()


def _array(typecode: str, numbers: Sequence[float]) -> array[Any]:
    if isinstance(numbers, array) and numbers.typecode == typecode:
        return numbers
    if typecode == "d" and any(number.__class__ is not float for number in numbers):
        raise TypeError(typecode)  # an integer among floats is written as one
    return array(typecode, numbers)


def _floats(timepoints: Sequence[int], values: Sequence[float], tail: str) -> str:
    return _fill("%d,%r" + tail, timepoints, values)


def _durations(timepoints: Sequence[int], values: Sequence[float], tail: str) -> str:
    if min(values) < 0:
        # No monotonic clock makes one; a value that a program made up may be.
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
