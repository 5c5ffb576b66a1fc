from __future__ import annotations

import pytest

from aqltelemetry.wording import counted, processes


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (4000, "4,000 files")]
)
def test_a_noun_goes_with_its_number(number: int, text: str) -> None:
    assert counted(number, "file") == text


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
    assert [processes(number) for number in (1, 2)] == ["1 process", "2 processes"]
    assert [processes(n, "killed") for n in (0, 1)] == ["0 killed processes", "1 killed process"]
