from __future__ import annotations

import math

import numpy as np
import pytest

from aqltelemetry.errors import OptionError
from aqltelemetry.shipping.metrics.buckets import (
    bound_text,
    bucket_numbers,
    cumulated,
    parse_bounds,
)


def test_bounds_are_ascending_numbers_and_end_with_infinity() -> None:
    assert parse_bounds("--x", "0.01, 0.1,1") == (0.01, 0.1, 1.0, math.inf)
    assert parse_bounds("--x", "0.5,inf") == (0.5, math.inf)
    for wrong in ("", "a", "1,1", "2,1", "-1,1", "0,1", "nan", "inf", ",".join(["1"] * 300)):
        with pytest.raises(OptionError, match="ascending"):
            parse_bounds("--x", wrong)


def test_a_value_on_a_bound_belongs_to_the_bucket_below_it() -> None:
    values = np.array([0.0, 0.01, 0.0100001, 5.0, math.inf])
    numbers = bucket_numbers(values, (0.01, 0.1, math.inf))
    assert numbers.tolist() == [0, 0, 1, 2, 2]
    assert cumulated(np.bincount(numbers)) == [2, 3, 5]


def test_bounds_are_written_as_prometheus_does() -> None:
    assert [bound_text(each) for each in (0.005, 1.0, math.inf)] == ["0.005", "1.0", "+Inf"]
