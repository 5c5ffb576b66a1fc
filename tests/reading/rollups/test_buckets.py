from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry.reading.rollups.buckets import SCALE, ZERO, bucket_numbers

_BASE = 2.0 ** (2.0**-SCALE)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-11, 1e11))
def test_a_value_is_in_the_bucket_of_its_number(value: float) -> None:
    (number,) = bucket_numbers(np.array([value])).tolist()
    almost = 1e-12
    assert _BASE**number * (1 - almost) < value <= _BASE ** (number + 1) * (1 + almost)


def test_a_power_of_two_is_the_upper_bound_of_its_bucket() -> None:
    assert bucket_numbers(np.array([1.0, 2.0, 0.5])).tolist() == [-1, 31, -33]


def test_values_that_are_not_positive_have_a_bucket_of_their_own() -> None:
    assert bucket_numbers(np.array([0.0, -1.0])).tolist() == [ZERO, ZERO]
    (largest,) = bucket_numbers(np.array([math.inf])).tolist()
    assert largest < 2_000
