"""The arithmetic of the page about scale follows from what is measured on the same page."""

from __future__ import annotations

import json
import re

import pytest
from _fleet_arithmetic import (
    DAY_S,
    HOSTS,
    REQUESTS_PER_S,
    ROWS_PER_REQUEST,
    ROWS_PER_S,
    SCALE,
    SHIPMENT_BYTES,
    WORKERS,
    between,
    cells,
    fleet_table,
    rates_of,
    tables_of,
)

from aqltelemetry.journal.format import RECORD_BYTES
from aqltelemetry.shipping.destinations.clickhouse import ClickHouse

_PAGE = SCALE.read_text()
_SIZES = {form: float(row[0]) for form, row in cells(between(_PAGE, "sizes")).items()}


@pytest.mark.parametrize("name", ["sizes", "fleet", "throughput"])
def test_the_figures_of_the_page_are_the_results_of_the_benchmarks(name: str) -> None:
    results = json.loads((SCALE.parent.parent / "benchmarks" / "results.json").read_text())
    assert between(_PAGE, name).strip() == tables_of(results)[name].strip()


def test_what_a_fleet_makes_follows_from_the_sizes() -> None:
    assert between(_PAGE, "fleet").strip() == fleet_table(_SIZES).strip()
    assert len(_SIZES) >= 10
    assert _SIZES["a record of the journal"] == RECORD_BYTES


def test_the_rates_follow_from_the_throughput() -> None:
    assert between(_PAGE, "rates").strip() == rates_of(_PAGE).strip()


def test_the_arithmetic_is_of_the_fleet_that_the_page_describes() -> None:
    text = " ".join(_PAGE.split())
    assert f"{HOSTS:,} hosts of {WORKERS} workers, each with {REQUESTS_PER_S:,} requests" in text
    assert f"A request has {ROWS_PER_REQUEST} observations" in text


def test_the_page_computes_with_the_size_of_the_shipments_that_are_sent() -> None:
    assert ClickHouse.max_bytes == SHIPMENT_BYTES


def test_ratios_of_the_text_are_those_of_the_table() -> None:
    (times,) = re.findall(r"\[(\d+) times\]\(#an-observation\)", _PAGE)
    assert _SIZES["PostgreSQL"] / _SIZES["ClickHouse"] >= int(times)
    assert 'With `keep_bytes="8GiB"`' in _PAGE
    assert (8 << 30) / (ROWS_PER_S * _SIZES["CSV"]) >= 3600
    assert "take a tenth of this: 512 GB hold four weeks" in " ".join(_PAGE.split())
    assert 0.08 < _SIZES["archive"] / _SIZES["CSV"] < 0.11
    assert 28 <= 512e9 / (ROWS_PER_S * _SIZES["archive"] * DAY_S) < 32
    assert "aggregates take about a hundredth of Parquet" in _PAGE
    assert 0.005 < _SIZES["remote write, every 10 s"] / _SIZES["Parquet"] < 0.02
    assert "about 2 million rows, and need some twenty servers" in _PAGE
    assert 1.9e6 <= SHIPMENT_BYTES / _SIZES["CSV"] <= 2.1e6
    assert 15 <= ROWS_PER_S * HOSTS * _SIZES["CSV"] / SHIPMENT_BYTES <= 20


@pytest.mark.parametrize(
    ("bytes_per_row", "expected"),
    # 8 workers x 2,000 requests x 2.01 rows = 32,160 rows a second of a host.
    [
        (10, ["0.32", "2.6", "28", "28"]),
        (100, ["3.22", "25.7", "278", "278"]),
        (0.1, ["0.0032", "0.026", "0.28", "0.28"]),
    ],
)
def test_the_arithmetic_is_right_by_hand(bytes_per_row: float, expected: list[str]) -> None:
    assert cells(fleet_table({"x": bytes_per_row})) == {"x": expected}
