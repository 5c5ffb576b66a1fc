from array import array
from collections.abc import Callable, Iterable, Sequence
from mmap import mmap

from aqltelemetry.system.clock import Anchor

def touch(mapped: mmap, start: int, stop: int, page_bytes: int) -> None: ...
def read_records(
    data: bytes | memoryview,
    positions: tuple[int, int],
    first_ids: tuple[int, int, int],
    ids: Iterable[int],
    anchors: Sequence[Anchor],
    check: bool,
    rest: Callable[[], None],
) -> tuple[list[tuple[int, array[int], array[int]]], int] | None: ...
def format_rows(
    timepoints: array[int],
    values: array[int] | array[float],
    tail: bytes,
    block_rows: int,
    memory: memoryview,
    begin: int,
) -> list[tuple[int, int, int, int]] | None: ...
