"""Summaries equal a plain computation with numpy, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.errors import OptionError, SeriesError
from aqltelemetry.reading.outcomes import OUTCOME_COLUMNS, split
from aqltelemetry.reading.summaries.summary import COLUMNS, QUANTILES, parse_by, parse_every
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish, recorded

_S = 1_000_000_000


def _expected(rows: Sequence[Row], by: Sequence[str], every_ns: int | None) -> dict[Any, Any]:
    """Return the columns of each group, but for the rate."""
    known = {row.label for row in rows}
    groups: dict[Any, Any] = {}
    for row in rows:
        base, outcome = split(row.label, known)
        total, _, word = base.rpartition(" ")
        if "label" not in by and word == "ttfb" and total in known:
            continue
        names = {"label": base, "pid": row.process[0], "writer": row.process[1]}
        begin = () if every_ns is None else (pd.Timestamp(row.at_ns // every_ns * every_ns),)
        key = (*begin, *(names[name] for name in by))
        values, outcomes = groups.setdefault(key, ([], []))
        (outcomes if outcome else values).append(outcome or row.value)
    return {
        (key[0] if len(key) == 1 else key): {
            "count": len(values),
            **{OUTCOME_COLUMNS[word]: outcomes.count(word) for word in OUTCOME_COLUMNS},
            **_statistics(np.array([value for value in values if not np.isnan(value)])),
        }
        for key, (values, outcomes) in groups.items()
    }


def _statistics(values: Any) -> dict[str, float]:
    if not len(values):
        return {**dict.fromkeys([*QUANTILES, "max_s"], np.nan), "sum_s": 0.0}
    with np.errstate(invalid="ignore"):
        quantiles = {name: float(np.quantile(values, share)) for name, share in QUANTILES.items()}
    return {**quantiles, "max_s": float(values.max()), "sum_s": float(values.sum())}


_GROUPINGS = [
    *((("label",), None), (("pid",), None), (("writer",), None), (("pid", "label"), None)),
    *((("label", "writer", "pid"), None), ((), "3s"), (("label",), "7s"), (("pid",), "1 h")),
]


@pytest.mark.parametrize(("by", "every"), _GROUPINGS)
@pytest.mark.parametrize("seed", range(3))
def test_a_summary_equals_a_plain_computation(
    tmp_path: Path, by: tuple[str, ...], every: str | None, seed: int
) -> None:
    rows = recorded(seed)
    table = publish(tmp_path, rows).summary(by=by, every=every)
    every_ns = None if every is None else parse_every(every)
    expected = _expected(rows, by, every_ns)
    assert list(table.columns) == list(COLUMNS)
    assert list(table.index.names) == [*(["begin"] if every else []), *by]
    assert set(table.index) == set(expected)
    for key, row in zip(table.index, table.to_dict("records"), strict=True):
        wanted = expected[key]
        assert row["sum_s"] == pytest.approx(wanted.pop("sum_s"), rel=1e-12)
        finite = {name: value for name, value in wanted.items() if np.isfinite(value)}
        assert {name: row[name] for name in finite} == finite
        assert [name for name in row if np.isnan(row[name])] in (
            [name for name in wanted if np.isnan(wanted[name])],
            [],  # numpy has NaN between a number and infinity
        )


def test_a_quantile_next_to_an_infinite_duration_is_infinite(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS, value, "x", PROCESSES[0]) for value in (1.0, 2.0, float("inf"))]
    row = publish(tmp_path, rows).summary().loc["x"]
    assert (row["p50_s"], row["p90_s"], row["max_s"]) == (2.0, np.inf, np.inf)


def test_a_nan_is_counted_and_is_in_no_percentile(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS, value, "x", PROCESSES[0]) for value in (1.0, float("nan"), 3.0)]
    row = publish(tmp_path, rows).summary().loc["x"]
    assert (row["count"], row["p50_s"], row["max_s"], row["sum_s"]) == (3, 2.0, 3.0, 4.0)


def test_one_duration_is_each_of_its_percentiles(tmp_path: Path) -> None:
    row = publish(tmp_path, [Row(EPOCH_NS, 0.25, "x", PROCESSES[0])]).summary().loc["x"]
    assert {row[name] for name in (*QUANTILES, "max_s", "sum_s")} == {0.25}


def test_without_durations_the_tables_are_empty_and_have_their_columns(tmp_path: Path) -> None:
    db = TelemetryDB(tmp_path)
    for table in (db.summary(), db.summary(by=("pid", "label"), every=1), db.timeline()):
        assert table.empty
        assert list(table.columns) == list(COLUMNS)
    assert db.summary(by=())["count"].tolist() == [0]
    assert list(db.slowest().columns)[:3] == ["begin", "end", "duration_s"]
    assert "cpu_percent" in db.workers().columns
    assert (len(db.slowest()), len(db.workers()), len(db.values()), len(db.dropped())) == (0,) * 4


def test_the_first_bytes_of_requests_follow_them_and_the_most_frequent_come_first(
    tmp_path: Path,
) -> None:
    labels = {
        "/a [GET]": 2,
        "/a [GET] disconnect": 1,
        "/a [GET] 4xx": 1,
        "/a [GET] ttfb": 2,
        "/b [GET]": 3,
        "/b [GET] ttfb": 3,
        "/b [GET] events": 1,
        "/b [GET] events ttfb": 1,
        "my own ttfb": 4,
        "/z [GET]": 2,
        "/c [GET] 5xx": 1,
    }
    rows = [
        Row(EPOCH_NS, 1.0, label, PROCESSES[0])
        for label, count in labels.items()
        for _ in range(count)
    ]
    assert list(publish(tmp_path, rows).summary().index) == [
        *("my own ttfb", "/b [GET]", "/b [GET] ttfb", "/a [GET]", "/a [GET] ttfb", "/z [GET]"),
        *("/b [GET] events", "/b [GET] events ttfb", "/c [GET] 5xx"),
    ]


def test_a_rate_is_per_second_of_recording_or_of_the_bin(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS + second * _S, 0.0, "x", PROCESSES[0]) for second in range(11)]
    db = publish(tmp_path, rows)
    assert db.recorded_s() == 10
    assert db.summary().loc["x", "per_s"] == 1.1
    assert db.summary(by=(), every="5s")["per_s"].tolist() == [1.0, 1.0, 0.2]


def test_bins_are_aligned_to_the_epoch(tmp_path: Path) -> None:
    rows = [Row(at_ns, 1.0, "x", PROCESSES[0]) for at_ns in (-1, 0, 6_999_999_999, 7 * _S)]
    begins = publish(tmp_path, rows).summary(by=(), every=timedelta(seconds=7)).index
    assert [begin.value for begin in begins] == [-7 * _S, 0, 7 * _S]


def test_a_timeline_has_every_bin(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS + second * _S, 1.0, "x", PROCESSES[0]) for second in (0, 35)]
    rows += [Row(EPOCH_NS, 1.0, label, PROCESSES[0]) for label in ("x failed", "x ttfb", "y")]
    db = publish(tmp_path, rows)
    table = db.timeline("x", every="10s")
    assert table["count"].tolist() == [1, 0, 0, 1]
    assert table["failures"].tolist() == [1, 0, 0, 0]
    assert table["p50_s"].isna().tolist() == [False, True, True, False]
    assert table["count"].dtype == np.int64
    assert db.timeline()["count"].tolist() == [2, 0, 0, 1]
    assert db.timeline(["x ttfb", "y"])["count"].tolist() == [2]
    assert db.timeline("x failed")["count"].tolist() == [1]
    with pytest.raises(SeriesError, match="y"):
        db.timeline("Y")
    with pytest.raises(OptionError, match="35,000,001 bins"):
        db.timeline("x", every="0.000001")


@pytest.mark.parametrize("every", [0, -1, "x", "", float("nan"), float("inf"), "0s", 1e300, None])
def test_a_time_bin_must_have_a_length(every: Any) -> None:
    with pytest.raises(OptionError, match="every"):
        parse_every(every)


@pytest.mark.parametrize("by", ["begin", ("label", "label"), ("pid", "Label")])
def test_unknown_groupings_are_refused(by: Any) -> None:
    with pytest.raises(OptionError, match="must be some of label, pid, writer"):
        parse_by(by)


def test_bins_that_are_too_many_to_number_are_refused(tmp_path: Path) -> None:
    rows = [
        Row(at_ns, 1.0, label, PROCESSES[0])
        for at_ns in (-(2**62), 2**62)
        for label in ("x", "y", "z")
    ]
    with pytest.raises(OptionError, match="must be longer"):
        publish(tmp_path, rows).summary(every=1e-9)


def test_what_was_recorded_since_then_is_in_the_next_summary(tmp_path: Path) -> None:
    db = publish(tmp_path, [Row(EPOCH_NS, 1.0, "x", PROCESSES[0])])
    assert db.summary()["count"].tolist() == [1]
    publish(tmp_path, [Row(EPOCH_NS, 1.0, "x", PROCESSES[1])])
    db.refresh()
    assert db.summary()["count"].tolist() == [2]


def test_only_the_time_range_that_was_loaded_is_summarized(tmp_path: Path) -> None:
    rows = recorded(1)
    publish(tmp_path, rows)
    since, until = EPOCH_NS + 5 * _S, EPOCH_NS + 10 * _S
    table = TelemetryDB(tmp_path, since=since, until=until).summary()
    expected = _expected([row for row in rows if since <= row.at_ns < until], ["label"], None)
    assert table["count"].to_dict() == {key: each["count"] for key, each in expected.items()}
