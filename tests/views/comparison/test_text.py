from __future__ import annotations

from typing import Any

import pytest

from aqltelemetry.views.comparison.compare import compare
from aqltelemetry.views.comparison.conditions import examine, parse_condition
from aqltelemetry.views.comparison.text import lines, markdown
from comparisons import recorded


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    a, b = recorded(1, load=4), recorded(2, load=4, slower=1.2)
    long = "/customers/{customer}/invoices/{invoice}/positions/{position} [GET]"
    b = b._replace(labels={**b.labels, long: b.labels["job"], "`a|b`": b.labels["job"]})
    a = a._replace(labels={**a.labels, long: a.labels["job"]})
    found = compare(a, b)
    conditions = [
        parse_condition(each) for each in ("p95 > 5%", "errors > 50%", "label:x p50 > 1%")
    ]
    return {**found, "conditions": examine(found, conditions)}


def test_a_terminal_of_sixty_columns_breaks_no_line(compared: dict[str, Any]) -> None:
    text = [line.text for line in lines(compared, width=60)]
    figures = [line for line in text if not line.startswith(("A  ", "B  ")) and ":" not in line]
    assert max(map(len, figures)) <= 60
    assert any("…" in line for line in text)


def test_each_change_is_a_line_with_its_interval(compared: dict[str, Any]) -> None:
    (row,) = (row for row in compared["labels"] if row["label"] == "/a [GET]")
    found = row["measures"]["p50"]
    text = [line.text for line in lines(compared)]
    at = text.index("/a [GET]  slower")
    assert text[at + 1] == f"  {row['count_a']:,} in A, {row['count_b']:,} in B"
    assert text[at + 2].split() == [
        *("*", "p50", f"{found['a'] * 1e3:.2f}", ">", f"{found['b'] * 1e3:.2f}", "ms"),
        *(f"{found['change'] * 100:+.1f}", "%"),
        *(f"{found['low'] * 100:+.1f}", "to", f"{found['high'] * 100:+.1f}"),
    ]


def test_conditions_are_stated_with_what_they_came_to(compared: dict[str, Any]) -> None:
    last = [line.text for line in lines(compared)][-3:]
    assert last[0].startswith("p95 > 5% holds: ")
    assert last[1].startswith("errors > 50% does not hold")
    assert last[2] == "label:x p50 > 1% is not decided: no common label matches"


def test_more_labels_than_wanted_are_counted(compared: dict[str, Any]) -> None:
    text = [line.text for line in lines(compared, top=1)]
    hidden = sum(bool(row["verdicts"]) for row in compared["labels"]) - 1
    assert hidden >= 1
    assert f"  and {hidden} more label{'s' * (hidden > 1)}: --top 0" in text


def test_markdown_has_a_row_for_each_certain_change(compared: dict[str, Any]) -> None:
    text = markdown(compared)
    certain = sum(
        found["is_certain"] for row in compared["labels"] for found in row["measures"].values()
    )
    assert text.count(" | **") == certain
    assert all(line.count(" | ") == 5 for line in text.splitlines() if line.startswith("| `"))
    assert "Only in B: `'a\\|b'`" in text


def test_stalls_are_listed_by_cause_with_those_that_changed_most_first() -> None:
    a, b = recorded(1, load=1), recorded(2, load=1)
    a = a._replace(stalls={"no CPU": (1, 0.06), "python code": (2, 0.25)})
    b = b._replace(stalls={"python code": (3, 1.5), "blocking I/O": (1, 0.1)})
    found = compare(a, b)
    shown = [
        "python code: 2 (250.0 ms) in A, 3 (1,500 ms) in B",
        "blocking I/O: 0 (0.0000 ms) in A, 1 (100.0 ms) in B",
        "no CPU: 1 (60.00 ms) in A, 0 (0.0000 ms) in B",
    ]
    text = [line.text for line in lines(found)]
    at = text.index("stalls, not compared for certain changes")
    assert text[at + 1 : at + 4] == [f"  {each}" for each in shown]
    assert all(f"- Stalls: {each}" in markdown(found).splitlines() for each in shown)
    without = compare(a._replace(stalls={}), b._replace(stalls={}))
    assert not any("stalls" in line.text for line in lines(without))
