"""The buckets of exponential histograms, and percentiles of what is in them.

Bucket i has the values above 2^(i/32), up to and including 2^((i+1)/32). These are the buckets of
scale 5 in https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SCALE = 5
"""The scale: there are 2^5 buckets between two powers of two, each 2.2 % wider than the last."""
ZERO = -(1 << 20)
"""The number of the bucket of values that are not positive."""
ERROR = 2.0 ** (0.5 / (1 << SCALE)) - 1
"""How much the middle of a bucket differs from a value in it at most, as a part of the value."""
_PER_DOUBLING = 1 << SCALE
_LEAST, _MOST = 1e-12, 1e12


def bucket_numbers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the number of each value's bucket; values are limited to 10^-12 and 10^12."""
    is_positive = values > 0
    within = np.clip(np.where(is_positive, values, 1.0), _LEAST, _MOST)
    numbers = np.ceil(np.log2(within) * _PER_DOUBLING).astype(np.int64) - 1
    return np.where(is_positive, numbers, ZERO)


def middles(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the geometric middle of buckets, and 0 for the one of values that are not positive."""
    found = np.exp2((numbers + 0.5) / _PER_DOUBLING)
    return np.where(numbers == ZERO, 0.0, found)
