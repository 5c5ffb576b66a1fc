"""Tables fit into the width of a terminal; numbers are never cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aqltelemetry.views.columns import DURATIONS, TABLES, WORKERS
from aqltelemetry.views.layout import GAP, fit, shortened

_LONG = "/api/v1/customers/{customer}/orders/{order}/lines/{line} [GET] ttfb"


def _duration(label: str, **others: Any) -> dict[str, Any]:
    row = {each.key: 1234.5678 for each in DURATIONS}
    return {**row, "label": label, "count": 1_234_567, "errors_4xx": 0, **others}


def _worker(pid: int, writer: str, **others: Any) -> dict[str, Any]:
    times = {"begin": "2026-11-24T10:00:00Z", "end": "2026-11-24T11:00:00Z"}
    row = {each.key: 123456.789 for each in WORKERS}
    return {**row, **times, "pid": pid, "writer": writer, "state": "running", **others}


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


@pytest.mark.parametrize("width", [60, 61, 80, 100, 120, 200])
@pytest.mark.parametrize("label", ["a", _LONG, "日本語" * 30])
def test_a_table_fits_into_the_width(width: int, label: str) -> None:
    rows = [_duration(label), _duration("b")]
    layout = fit(DURATIONS, rows, width)
    assert _total(layout.widths) <= width
    assert [each.head for each in layout.columns[:2]] == ["label", "count"]
    for column in layout.columns:
        needed = max(cell_len(column.text(row)) for row in rows)
        assert column.key == "label" or layout.widths[column.key] >= needed
    workers = fit(WORKERS, [_worker(4_194_304, "")], width)
    assert _total(workers.widths) <= width


def test_a_narrow_table_has_the_most_important_columns() -> None:
    layout = fit(DURATIONS, [_duration(_LONG)], 60)
    assert [each.head for each in layout.columns] == ["label", "count", "p50"]
    heads = {each.head for each in (*layout.columns, *layout.left_out)}
    assert heads == {each.head for each in DURATIONS} - {"4xx"}


def test_a_wider_table_has_more_columns() -> None:
    counts = [len(fit(DURATIONS, [_duration(_LONG)], width).columns) for width in range(40, 250)]
    assert counts == sorted(counts)
    assert counts[-1] == len(DURATIONS) - 1


def test_without_a_width_everything_is_there() -> None:
    layout = fit(DURATIONS, [_duration(_LONG)], None)
    assert layout.widths["label"] == len(_LONG)
    assert not layout.left_out


def test_a_label_gets_the_room_that_is_left() -> None:
    assert fit(DURATIONS, [_duration(_LONG)], 500).widths["label"] == len(_LONG)


def test_columns_without_content_are_left_out() -> None:
    rows = [_worker(1, "a", dropped=0, lag_max_s=None), _worker(2, "b", dropped=0, lag_max_s=None)]
    heads = {each.head for each in fit(WORKERS, rows, None).columns}
    assert {each.head for each in WORKERS} - heads == {"writer", "dropped", "lag max"}


def test_writers_are_shown_where_pids_repeat() -> None:
    rows = [_worker(1, "a"), _worker(1, "b")]
    assert "writer" in fit(WORKERS, rows, None).widths


def test_each_column_has_a_rank_and_a_meaning() -> None:
    for columns in TABLES.values():
        assert all(each.meaning and not each.meaning.endswith(".") for each in columns)
        assert len({each.key for each in columns}) == len(columns)


@given(st.text(max_size=60), st.integers(5, 40))
def test_a_shortened_text_is_within_its_width(text: str, width: int) -> None:
    found = shortened(text, width)
    assert cell_len(found) <= width
    assert found == text or "…" in found


@pytest.mark.parametrize(
    ("text", "width", "found"),
    [
        ("/orders [GET]", 13, "/orders [GET]"),
        ("/api/orders/{id} [GET]", 13, "/api/o… [GET]"),
        ("日本語日本語", 8, "日本…語"),
    ],
)
def test_a_label_is_shortened_in_the_middle(text: str, width: int, found: str) -> None:
    assert shortened(text, width) == found


def test_a_terminal_without_unicode_gets_dots() -> None:
    assert shortened("/api/orders/{id} [GET]", 13, "...") == "/api/...[GET]"
