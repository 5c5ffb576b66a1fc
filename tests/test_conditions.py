"""Conditions as text."""

from __future__ import annotations

import pytest

from aqltelemetry.conditions import Condition, parse_conditions


def test_conditions_have_a_measure_a_label_and_a_limit_in_seconds_bytes_or_a_share() -> None:
    text = (
        "lag > 500ms; rss > 2g;p99 /orders/{id} [GET] > 2s ; 5xx > 5%; 5xx /a [GET] > 0.5; killed"
    )
    assert [each[1:] for each in parse_conditions(text)] == [
        ("lag", "", 0.5),
        ("rss", "", 2 << 30),
        ("p99", "/orders/{id} [GET]", 2.0),
        ("5xx", "", 0.05),
        ("5xx", "/a [GET]", 0.5),
        ("killed", "", 0.0),
    ]


def test_a_label_may_contain_the_sign_of_a_comparison() -> None:
    assert parse_conditions("max a > b > 1m") == (
        Condition("max a > b > 1m", "max", "a > b", 60.0),
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", ";", "lag", "lag > ", "lag < 1s", "lag /a > 1s", "rss > much", "5xx > 100%"),
        *("p98 > 1s", "killed > 1", "p99 > -1s", "lag > nan", "lag > inf"),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        parse_conditions(text)
