from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Counts: TypeAlias = npt.NDArray[np.int32]
_Floats: TypeAlias = npt.NDArray[np.float64]
_Integers: TypeAlias = npt.NDArray[np.int64]

class Window:
    bins: int
    def __init__(
        self, begin_ns: int, end_ns: int, first_ns: int, width_ns: int, bins: int
    ) -> None: ...

class Part:
    def __init__(
        self,
        times_ns: _Integers,
        values: _Floats,
        labels: _Bytes,
        processes: _Bytes,
        label_groups: _Counts,
        process_groups: _Counts,
    ) -> None: ...

def count_labels(
    window: Window,
    times_ns: _Integers,
    values: _Floats,
    codes: _Bytes,
    name_of_code: _Counts,
    counts: _Integers,
    lowest: _Floats,
    highest: _Floats,
) -> None: ...
def count(window: Window, part: Part, first: int, counts: _Counts, largest: _Floats) -> None: ...
def gather(
    window: Window,
    part: Part,
    first: int,
    places: _Counts,
    total_places: _Counts,
    out: _Floats,
) -> None: ...
def locate(
    counts: _Counts,
    ranks: _Integers,
    buckets: _Counts,
    offsets: _Counts,
    places: _Counts,
    start: int,
) -> int: ...
def sort_runs(starts: _Counts, counts: _Counts, values: _Floats) -> None: ...
