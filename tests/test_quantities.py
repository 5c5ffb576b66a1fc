from __future__ import annotations

import math

import pytest

from aqltelemetry.quantities import (
    ago,
    counted,
    mebibytes,
    milliseconds,
    number,
    processes,
    rate,
)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (4000, "4,000 files")]
)
def test_a_noun_goes_with_its_number(number: int, text: str) -> None:
    assert counted(number, "file") == text


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
    assert [processes(number) for number in (1, 2)] == ["1 process", "2 processes"]
    assert [processes(n, "killed") for n in (0, 1)] == ["0 killed processes", "1 killed process"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7199, "120 min ago")),
        *((7200, "2 hours ago"), (86400, "24 hours ago"), (200_000, "2 days ago")),
    ],
)
def test_an_age_is_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_numbers_have_their_decimals_and_unknown_ones_a_dash() -> None:
    assert [number(1234.5, 2), number(2, 0), number(math.nan, 1)] == ["1,234.50", "2", "-"]
    assert [mebibytes(3 << 19), mebibytes(math.nan)] == ["1.5", "-"]


def test_milliseconds_are_exact_to_the_nanosecond_where_they_are_few() -> None:
    assert [milliseconds(1.5), milliseconds(0.00001), milliseconds(0.000001234)] == [
        *("1,500.000", "0.010", "0.001234"),
    ]
    assert [milliseconds(1.5, 1), milliseconds(math.nan)] == ["1,500.0", "-"]


@pytest.mark.parametrize(
    ("per_second", "text"), [(1234.56, "1,234.6"), (1, "1.0"), (0.00667, "0.0067"), (0, "0.0")]
)
def test_a_rate_has_two_significant_digits_however_small(per_second: float, text: str) -> None:
    assert rate(per_second) == text
