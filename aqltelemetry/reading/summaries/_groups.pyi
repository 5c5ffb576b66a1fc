from typing import Any

import numpy as np
import numpy.typing as npt

def sort_by_key(
    keys: npt.NDArray[np.signedinteger[Any]],
    values: npt.NDArray[np.float64],
    ends: npt.NDArray[np.int64],
    out: npt.NDArray[np.float64],
) -> None: ...
def count_cells(
    labels: npt.NDArray[np.signedinteger[Any]],
    processes: npt.NDArray[np.signedinteger[Any]],
    width: int,
    counts: npt.NDArray[np.int64],
) -> None: ...
def arrange(
    labels: npt.NDArray[np.signedinteger[Any]],
    processes: npt.NDArray[np.signedinteger[Any]],
    width: int,
    ends: npt.NDArray[np.int64],
    column: npt.NDArray[np.int64],
    out: npt.NDArray[np.int64],
) -> None: ...
