from __future__ import annotations

from typing import Any

import pytest

from aqltelemetry.errors import OptionError
from aqltelemetry.views.comparison.conditions import examine, parse_condition


@pytest.mark.parametrize(
    ("text", "label", "measure", "is_rise", "change"),
    [
        ("p95 > +10%", None, "p95", True, 0.1),
        ("p50>5%", None, "p50", True, 0.05),
        ("rate < -20 %", None, "rate", False, -0.2),
        ("errors > +0.5%", None, "errors", True, 0.005),
        ("label:/orders* p99 > 0%", "/orders*", "p99", True, 0.0),
        ("label:/orders/{id} [GET] p99 < 0%", "/orders/{id} [GET]", "p99", False, 0.0),
        ("label:p95 > p95 > 1%", "p95 >", "p95", True, 0.01),
    ],
)
def test_a_condition_is_a_measure_and_a_change(
    text: str, label: str | None, measure: str, is_rise: bool, change: float
) -> None:
    assert parse_condition(text) == (text, label, measure, is_rise, change)


@pytest.mark.parametrize(
    "text",
    ["", "p95", "p95 > 10", "p95 = 10%", "p90 > 10%", "p95 > -10%", "p95 < +10%", "p95 >> 1%"],
)
def test_any_other_text_is_no_condition(text: str) -> None:
    with pytest.raises(OptionError, match="must be such as 'p95 > \\+10%'"):
        parse_condition(text)


def _compared(**intervals: tuple[float, float] | None) -> dict[str, Any]:
    rows = [
        {
            "label": f"/{name} [GET]",
            "measures": {"p95": dict(zip(("low", "high"), found or (None, None), strict=True))},
        }
        for name, found in intervals.items()
    ]
    return {"labels": rows}


def test_a_condition_holds_where_the_whole_interval_is_beyond_it() -> None:
    compared = _compared(a=(0.11, 0.3), b=(0.09, 0.3), c=(-0.5, -0.2), d=None)
    rise, fall, other = examine(
        compared, [parse_condition(each) for each in ("p95 > 10%", "p95 < -10%", "p95 > 50%")]
    )
    assert rise == {
        "text": "p95 > 10%",
        "holds": ["/a [GET]"],
        "unknown": ["/d [GET]"],
        "decided": 3,
    }
    assert fall["holds"] == ["/c [GET]"]
    assert other["holds"] == []


def test_a_condition_may_be_on_some_labels() -> None:
    compared = _compared(a=(0.11, 0.3), b=(0.2, 0.3))
    (found,) = examine(compared, [parse_condition("label:/b [GET] p95 > 10%")])
    assert (found["holds"], found["decided"]) == (["/b [GET]"], 1)
    (found,) = examine(compared, [parse_condition("label:/nothing p95 > 10%")])
    assert found["decided"] == 0
