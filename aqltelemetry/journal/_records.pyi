from collections.abc import Iterator
from mmap import mmap

from aqltelemetry.journal.labels import SeriesKey
from aqltelemetry.journal.records import TOUCHED_BYTES as TOUCHED_BYTES
from aqltelemetry.journal.records import read_records as read_records
from aqltelemetry.journal.records import share as share
from aqltelemetry.journal.records import stop_after as stop_after
from aqltelemetry.journal.records import touch as touch

class Slots(Iterator[int]):
    def __init__(self, mapped: mmap, ids: dict[SeriesKey, int], positions: range) -> None: ...
    def __next__(self) -> int: ...
    def __length_hint__(self) -> int: ...

free_slots = Slots
