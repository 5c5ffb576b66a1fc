"""What is known of each recorded process, from its samples, its durations and its accounts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aqltelemetry import TelemetryDB
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish

_S = 1_000_000_000
_A, _B, _C = PROCESSES[:3]


def _sampled(process: tuple[int, str], **series: list[float]) -> list[Row]:
    """Return samples of each series, one a second from EPOCH_NS on."""
    return [
        Row(EPOCH_NS + second * _S, value, label.replace("_", " "), process)
        for label, values in series.items()
        for second, value in enumerate(values)
    ]


def test_the_columns_of_a_worker_are_those_of_its_samples(tmp_path: Path) -> None:
    rows = _sampled(
        _A,
        gc_collections=[10.0, 12.0, 13.0],
        gc_pause=[0.002, 0.004],
        gc_pause_gen0=[9.0],
        user_time=[1.0, 1.25, 1.5],
        system_time=[0.1, 0.2, 0.25],
        rss=[1.0, 3.0, 2.0],
        event_loop_lag=[0.001, 0.003],
        requests_in_flight=[1.0, 5.0, 3.0],
    )
    publish(tmp_path, rows[::-1], "runtime")
    publish(tmp_path, [Row(EPOCH_NS + _S, 0.5, label, _A) for label in ("x", "x 5xx", "x ttfb")])
    (row,) = TelemetryDB(tmp_path).workers().to_dict("records")
    expected = {
        "count": 1,
        "p50_s": 0.5,
        "p99_s": 0.5,
        "errors_5xx": 1,
        "in_flight": 3.0,
        "gc_collections": 13.0,
        "gc_pauses": 2.0,
        "gc_pause_s": 0.006,
        "gc_pause_max_s": 0.004,
        "cpu_s": 1.75,
        "cpu_percent": 32.5,
        "rss_bytes": 2.0,
        "rss_max_bytes": 3.0,
        "lag_p99_s": 0.00298,
        "lag_max_s": 0.003,
        "dropped": 0,
        "per_s": 1 / 3,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert (row["begin"].value, row["end"].value) == (EPOCH_NS - _S, EPOCH_NS + 2 * _S)
    assert row["state"] == "unknown"


def test_what_was_not_sampled_is_nan(tmp_path: Path) -> None:
    publish(tmp_path, _sampled(_A, gc_collections=[4.0], user_time=[1.0]), "runtime")
    (row,) = TelemetryDB(tmp_path).workers().to_dict("records")
    assert (row["gc_pauses"], row["gc_pause_s"], row["count"]) == (0, 0, 0)
    unknown = ("gc_pause_max_s", "rss_bytes", "cpu_s", "cpu_percent", "p50_s", "in_flight")
    assert all(np.isnan(row[name]) for name in unknown)


def test_processes_with_equal_pids_are_distinguished(tmp_path: Path) -> None:
    """Two containers may share a directory."""
    rows = [*_sampled(_A, user_time=[3.0]), *_sampled(_B, user_time=[0.5])]
    rows += [*_sampled(_A, system_time=[0.0]), *_sampled(_B, system_time=[0.0])]
    db = publish(tmp_path, rows, "runtime")
    assert db.workers()["cpu_s"].to_dict() == {_A: 3.0, _B: 0.5}


def test_the_accounts_say_how_a_process_ended(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS, 1.0, "x", process) for process in PROCESSES])
    publish(tmp_path, [Row(EPOCH_NS, 1, "end", _A), Row(EPOCH_NS, 0, "end", _B)], "account")
    found = TelemetryDB(tmp_path).workers()["state"].tolist()
    assert found == ["stopped", "killed", "unknown", "unknown"]


def test_drops_are_the_larger_number_of_accounts_and_samples(tmp_path: Path) -> None:
    """The latest account has the totals; torn records are counted per account."""
    accounts = [(2, "torn", _A), (3, "no segment", _A), (1, "torn", _A), (9, "no segment", _A)]
    accounts += [(7, "no segment", _B)]
    rows = [Row(EPOCH_NS, value, f"dropped {reason}", who) for value, reason, who in accounts]
    publish(tmp_path, [*rows, Row(EPOCH_NS, 4, "rows custom", _A)], "account")
    sampled = [Row(EPOCH_NS + 1, 5.0, "telemetry dropped no segment", _A)]
    sampled += [Row(EPOCH_NS, 1.0, "telemetry dropped invalid", _A)]
    sampled += [Row(EPOCH_NS + 1, 2.0, "telemetry dropped invalid", _A)]
    publish(tmp_path, sampled, "runtime")
    db = TelemetryDB(tmp_path)
    assert db.dropped().to_dict() == {
        (*_A, "invalid"): 2,
        (*_A, "no segment"): 9,
        (*_A, "torn"): 3,
        (*_B, "no segment"): 7,
    }
    assert db.workers()["dropped"].to_dict() == {_A: 14}


def test_a_forked_child_is_one_worker(tmp_path: Path) -> None:
    """Each of its segments has a writer of its own, and the same totals in its account."""
    rows = [
        Row(EPOCH_NS, value, label, process)
        for process, drops in ((_A, 3), (_B, 5))
        for label, value in (("child", 77), ("dropped no segment", drops))
    ]
    publish(tmp_path, [*rows, Row(EPOCH_NS, 78, "child", _C)], "account")
    publish(tmp_path, [Row(EPOCH_NS, 1.0, "x", process) for process in (_A, _B, _B, _C)])
    table = TelemetryDB(tmp_path).workers()
    assert table["count"].to_dict() == {_A: 3, _C: 1}
    assert table["dropped"].to_dict() == {_A: 5, _C: 0}


def test_times_are_utc_without_a_zone(tmp_path: Path) -> None:
    table = publish(tmp_path, [Row(EPOCH_NS, 0.25, "x", _A)]).workers()
    assert table["begin"].tolist() == [pd.Timestamp(EPOCH_NS - _S // 4)]
    assert table["end"].dtype == "datetime64[ns]"


def test_values_of_other_prefixes_are_summarized_by_series(tmp_path: Path) -> None:
    publish(tmp_path, _sampled(_A, length=[3.0, 1.0, 2.0, 8.0], age=[1.0]), "queue")
    publish(tmp_path, _sampled(_B, length=[9.0]), "custom")
    table = TelemetryDB(tmp_path).values()
    assert list(table.index) == [("custom", "length"), ("queue", "age"), ("queue", "length")]
    assert table.to_dict("records")[2] == {
        "count": 4,
        "min": 1.0,
        "median": 2.5,
        "max": 8.0,
        "last": 8.0,
    }
