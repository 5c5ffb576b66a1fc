"""The bounds of classic histograms, and counting values between them."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import OptionError

Bounds: TypeAlias = tuple[float, ...]
"""Upper bounds of buckets, each included, in ascending order; a last one is infinite."""
_REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DEFAULT_BOUNDS: Bounds = (*_REQUEST_BOUNDS, math.inf)
"""The bounds for durations, in seconds."""
PAUSE_BOUNDS: Bounds = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, math.inf)
"""The bounds for pauses of the garbage collector and delays of the event loop, in seconds."""
STALL_BOUNDS: Bounds = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, math.inf)
"""The bounds for stalls of the event loop, in seconds."""
_MAX_BOUNDS = 200


def parse_bounds(option: str, text: str) -> Bounds:
    """Return bounds from a text such as `0.01,0.1,1`; an infinite one is added.

    Raises:
        OptionError: The text is not that of ascending positive numbers; it names `option`.
    """
    rule = f"must be at most {_MAX_BOUNDS} seconds in ascending order, such as 0.01,0.1,1"
    try:
        bounds = [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(option, text, rule) from None
    finite = [bound for bound in bounds if bound != math.inf]
    is_ascending = all(low < high for low, high in zip([0.0, *finite], finite, strict=False))
    if not (finite and is_ascending and len(finite) <= _MAX_BOUNDS):
        raise OptionError(option, text, rule)
    return (*finite, math.inf)


def bucket_numbers(values: npt.NDArray[np.float64], bounds: Bounds) -> npt.NDArray[np.intp]:
    """Return the number of the bucket of each value, none of which is NaN."""
    return np.searchsorted(bounds, values, side="left")


def bound_text(bound: float) -> str:
    """Return a bound as the label `le` has it."""
    return "+Inf" if bound == math.inf else repr(bound)


def cumulated(counts: npt.NDArray[Any]) -> list[float]:
    """Return for each bucket how many values do not exceed its bound."""
    found: list[float] = np.cumsum(counts).tolist()
    return found
