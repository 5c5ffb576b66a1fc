from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views.comparison.compare import MEASURES, Options, compare
from aqltelemetry.views.comparison.durations import Durations, Series, durations
from comparisons import ROUTES, recorded, recording

_NO_ERRORS = np.empty(0, np.int64)


def _row(compared: dict[str, Any], label: str) -> dict[str, Any]:
    (row,) = (row for row in compared["labels"] if row["label"] == label)
    return dict(row)


def _of(seconds: list[float] | Any, errors: int = 0, label: str = "x") -> Durations:
    times_ns = np.arange(len(seconds)) * 10**7
    error_times = times_ns[:: max(len(seconds) // errors, 1)][:errors] if errors else _NO_ERRORS
    series = Series(times_ns, np.array(seconds, float), error_times)
    return Durations("x", len(seconds) / 100, 0, int(times_ns[-1]), {label: series})


@pytest.mark.parametrize("pairs", [8, pytest.param(200, marks=pytest.mark.system)])
def test_no_pair_of_equal_recordings_differs(pairs: int) -> None:
    wrong = [
        (seed, row["label"], row["verdicts"])
        for seed in range(0, 2 * pairs, 2)
        for row in compare(recorded(seed), recorded(seed + 1))["labels"]
        if row["verdicts"]
    ]
    assert wrong == []


@pytest.mark.system
@pytest.mark.parametrize(
    ("load", "label", "measure"), [(1.5, "/a [GET]", "p50"), (3, "/a [GET]", "p95")]
)
def test_a_tenth_more_is_found_in_nineteen_of_twenty_pairs(
    load: float, label: str, measure: str
) -> None:
    """The median from 7,000 requests in each recording on, the 95th percentile from 14,000."""
    found = []
    for seed in range(20):
        compared = compare(
            recorded(1_000 + seed, load=load), recorded(2_000 + seed, load=load, slower=1.1)
        )
        row = _row(compared, label)
        change = row["measures"][measure]
        found.append(
            change["is_certain"] and change["change"] > 0 and row["verdicts"] == ["slower"]
        )
    assert sum(found) >= 19


def test_values_and_changes_are_exact() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.exponential(0.01, 3_000), rng.exponential(0.02, 2_000)
    row = _row(compare(_of(a), _of(b, errors=100)), "x")
    assert (row["count_a"], row["count_b"]) == (3_000, 2_000)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        found, values = row["measures"][name], [np.quantile(each, share) for each in (a, b)]
        assert [found["a"], found["b"]] == values
        assert found["change"] == pytest.approx(values[1] / values[0] - 1)
        assert found["low"] < found["change"] < found["high"]
    assert row["measures"]["rate"]["a"] == row["measures"]["rate"]["b"] == 100
    assert row["measures"]["errors"]["change"] == 0.05
    assert row["extra_s"] == pytest.approx((b.mean() - a.mean()) * 2_000)
    assert row["verdicts"] == ["slower", "more errors"]


def test_faster_rarer_and_fewer_errors_are_stated() -> None:
    rng = np.random.default_rng(2)
    a, b = _of(rng.exponential(0.02, 4_000), errors=400), _of(rng.exponential(0.01, 4_000))
    b = b._replace(recorded_s=b.recorded_s * 2)
    assert _row(compare(a, b), "x")["verdicts"] == ["faster", "fewer errors", "less often"]


def test_a_change_below_the_minimum_effect_does_not_count() -> None:
    a = np.random.default_rng(3).uniform(0.01, 0.0101, 4_000)
    row = _row(compare(_of(a), _of(a * 1.03)), "x")
    assert row["measures"]["p50"]["low"] > 0
    assert row["verdicts"] == []
    options = Options(min_effect=0.01)
    assert _row(compare(_of(a), _of(a * 1.03), options), "x")["verdicts"] == ["slower"]


@pytest.mark.parametrize(("count", "known"), [(99, 0), (100, 1), (200, 2), (1_000, 3)])
def test_a_percentile_with_too_few_observations_has_no_interval(count: int, known: int) -> None:
    seconds = np.random.default_rng(4).exponential(0.01, count)
    measures = _row(compare(_of(seconds), _of(seconds)), "x")["measures"]
    intervals = [measures[name]["low"] is not None for name in ("p50", "p95", "p99")]
    assert intervals == [True] * known + [False] * (3 - known)


def test_one_observation_and_durations_of_zero_do_no_harm() -> None:
    for seconds in ([0.5], [0.0], [0.0] * 500):
        compared = compare(_of(seconds), _of(seconds))
        assert _row(compared, "x")["verdicts"] == []
        json.dumps(compared, allow_nan=False)


def test_labels_of_one_side_only_are_listed() -> None:
    a, b = _of([0.5, 0.7], label="old"), _of([0.5], label="new")
    compared = compare(a, b)
    assert compared["labels"] == []
    assert compared["only_a"] == [{"label": "old", "count": 2, "p50_s": 0.6}]
    assert [row["label"] for row in compared["only_b"]] == ["new"]


def test_what_changed_comes_first_by_the_time_that_it_costs() -> None:
    compared = compare(recorded(1, load=4), recorded(2, load=4, slower=1.3))
    changed = [bool(row["verdicts"]) for row in compared["labels"]]
    assert changed == sorted(changed, reverse=True)
    costs = [row["extra_s"] for row in compared["labels"] if row["verdicts"]]
    assert len(costs) > 1
    assert costs == sorted(costs, reverse=True)


def test_the_same_recordings_give_the_same_result() -> None:
    a, b = recorded(1), recorded(2)
    assert compare(a, b) == compare(a, b)


def test_the_more_labels_are_compared_the_wider_is_each_interval() -> None:
    seconds = np.random.default_rng(5).exponential(0.01, 1_000)
    one = _of(seconds)
    many = one._replace(labels={str(each): one.labels["x"] for each in range(9)})
    widths = []
    for each in (one, many):
        found = compare(each, each)["labels"][0]["measures"]["p50"]
        widths.append(math.log1p(found["high"]) - math.log1p(found["low"]))
    assert widths[1] > 1.1 * widths[0]


def test_the_durations_of_a_recording_are_those_of_its_summary(tmp_path: Path) -> None:
    db = TelemetryDB(recording(7).write(tmp_path / "m"))
    found, summary = durations(db, "m"), db.summary()
    assert set(found.labels) == {route.label for route in ROUTES} == set(summary.index)
    errors = summary[["errors_4xx", "errors_5xx", "disconnects", "failures"]].sum(axis=1)
    for label, series in found.labels.items():
        assert len(series.seconds) == summary["count"][label]
        assert len(series.error_times_ns) == errors[label]
        assert np.quantile(series.seconds, 0.95) == summary["p95_s"][label]
    assert found.recorded_s == db.recorded_s()
    measures = _row(compare(found, found), "/a [GET]")["measures"]
    assert measures["rate"]["a"] == summary["per_s"]["/a [GET]"]
    assert set(measures) == set(MEASURES)


def test_only_wanted_labels_are_compared(tmp_path: Path) -> None:
    db = TelemetryDB(recording(7).write(tmp_path / "m"))
    assert set(durations(db, "m", lambda label: label == "job").labels) == {"job"}
