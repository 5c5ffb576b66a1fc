from __future__ import annotations

import pytest

from aqltelemetry.quantities import ago, counted, processes


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
