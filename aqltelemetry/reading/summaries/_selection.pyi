from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Indexes: TypeAlias = npt.NDArray[np.int64]

def select(
    values: npt.NDArray[np.float64],
    begins: _Indexes,
    ends: _Indexes,
    firsts: _Indexes,
    ranks: _Indexes,
    out: npt.NDArray[np.float64],
) -> None: ...
