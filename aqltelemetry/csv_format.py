"""From columns of observations to CSV text, with integers all the way.

One template for a whole block of rows, filled by one `%`, is several times as
fast as a statement per row, and holds the interpreter lock only for as long as
a block takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from aqltelemetry.clock import breathe
from aqltelemetry.observation import Batch, Column, Kind, quote_field

_BLOCK_ROWS = 512
_NS_PER_S = 1_000_000_000
# A timepoint of 20 characters and a float of 25, with their commas.
_NUMBERS_BYTES = 48
_PIECES = 4


class Block(NamedTuple):
    """Some rows as text, and the first and last of their timepoints."""

    text: bytes
    from_ns: int
    to_ns: int


def format_batch(batch: Batch, rest: Callable[[], None] = breathe) -> dict[str, list[Block]]:
    """Return the rows of a batch by file prefix, those of a label together.

    No block is larger than a quarter of the batch's `max_file_bytes`, but for
    one of a single row. The same batch always gives the same blocks. `rest` is
    called between blocks.
    """
    texts: dict[str, list[Block]] = {}
    for column in sorted(batch.columns, key=lambda column: column.series):
        blocks = texts.setdefault(column.series.prefix, [])
        for block in _blocks(column, batch.pid, batch.max_file_bytes):
            blocks.append(block)
            rest()
    return texts


def _blocks(column: Column, pid: int, max_file_bytes: int) -> Iterator[Block]:
    tail = f",{quote_field(column.series.label)},{pid}\n"
    row_bytes = _NUMBERS_BYTES + len(tail.encode())
    rows = max(1, min(_BLOCK_ROWS, max_file_bytes // _PIECES // row_bytes))
    tail = tail.replace("%", "%%")
    exact = column.series.kind is Kind.NANOSECONDS
    for start in range(0, len(column.timepoints_ns), rows):
        timepoints = column.timepoints_ns[start : start + rows]
        values = column.values[start : start + rows]
        text = _durations(timepoints, values, tail) if exact else _floats(timepoints, values, tail)
        yield Block(text.encode(), min(timepoints), max(timepoints))


def _floats(timepoints: Sequence[int], values: Sequence[float], tail: str) -> str:
    return _fill("%d,%r" + tail, timepoints, values)


def _durations(timepoints: Sequence[int], values: Sequence[float], tail: str) -> str:
    if min(values) < 0:
        # No monotonic clock makes one; a value that a program made up may be.
        signs = ["-" if value < 0 else "" for value in values]
        whole, rest = _split([abs(value) for value in values])
        return _fill("%d,%s%d.%09d" + tail, timepoints, signs, whole, rest)
    if max(values) < _NS_PER_S:
        return _fill("%d,0.%09d" + tail, timepoints, values)
    return _fill("%d,%d.%09d" + tail, timepoints, *_split(values))


def _split(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    return (
        [value // _NS_PER_S for value in values],
        [value % _NS_PER_S for value in values],
    )


def _fill(template: str, *columns: Sequence[object]) -> str:
    rows, width = len(columns[0]), len(columns)
    cells: list[object] = [None] * (rows * width)
    for index, column in enumerate(columns):
        cells[index::width] = column
    return template * rows % tuple(cells)
