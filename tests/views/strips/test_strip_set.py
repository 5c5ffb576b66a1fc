from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.reading.rows import Process
from aqltelemetry.views.strips import Strips, strips
from aqltelemetry.views.strips.strip_set import _floats
from fakes import EPOCH_NS

Write = Callable[..., None]
Load = Callable[[], TelemetryDB]


def _recording(write: Write) -> None:
    random = np.random.default_rng(3)
    for number, writer in enumerate("ab"):
        at = np.sort(random.uniform(0, 60, 3000))
        values = random.lognormal(-4, 1, 3000).round(9)
        labels = random.choice(["/a [GET]", "/b [POST]", "block"], 3000, p=[0.6, 0.3, 0.1])
        rows = list(zip(at, values.tolist(), labels, [7 + number] * 3000, strict=True))
        rows += [(when, value, f"{label} 5xx", pid) for when, value, label, pid in rows[::20]]
        write(rows, "duration", writer)
        samples = [
            (when, value, label, 7 + number)
            for when in np.arange(0.5, 60, 0.25).tolist()
            for label, value in (
                ("event loop lag", float(random.exponential(0.001))),
                ("gc pause", float(random.exponential(0.001))),
                ("cpu percent", float(random.uniform(0, 100))),
                ("rss", float(random.integers(1 << 20, 1 << 30))),
                ("requests in flight", float(random.integers(0, 9))),
            )
        ]
        write(samples, "runtime", writer)


@pytest.fixture
def recorded(write: Write, load: Load) -> TelemetryDB:
    _recording(write)
    return load()


def _binned(frame: pd.DataFrame, found: Strips) -> pd.DataFrame:
    """Return a frame with the column `bin`."""
    times = frame["Timepoint"].to_numpy().astype(np.int64)
    return frame.assign(bin=(times - found.window.begin_ns) // found.window.width_ns)


def _assert_equal(series: np.ndarray, wanted: pd.Series) -> None:
    expected = wanted.reindex(range(len(series)))
    np.testing.assert_allclose(series, expected.to_numpy(), rtol=1e-12)


def test_strips_of_routes_are_those_of_pandas(recorded: TelemetryDB) -> None:
    found = strips(recorded)
    frame = _binned(recorded.duration().data(), found)
    assert [route.label for route in found.routes] == ["/a [GET]", "/b [POST]", "block"]
    for route in found.routes:
        by_bin = frame[frame["Label"] == route.label].groupby("bin")["Measurement"]
        counts = by_bin.count().reindex(range(found.window.bins), fill_value=0)
        assert route.count.tolist() == counts.tolist()
        _assert_equal(route.p50_s, by_bin.quantile(0.5))
        _assert_equal(route.p90_s, by_bin.quantile(0.9))
        _assert_equal(route.p99_s, by_bin.quantile(0.99))
        _assert_equal(route.max_s, by_bin.max())
        failed = frame[frame["Label"] == f"{route.label} 5xx"].groupby("bin")["Measurement"].count()
        assert list(route.errors) == ["5xx"]
        assert (
            route.errors["5xx"].tolist()
            == failed.reindex(range(found.window.bins), fill_value=0).tolist()
        )
        assert route.heat.counts.sum(axis=1).tolist() == route.count.tolist()


def test_the_strip_of_all_requests_is_that_of_pandas(recorded: TelemetryDB) -> None:
    found = strips(recorded)
    frame = _binned(recorded.duration().data(), found)
    requests = frame[frame["Label"].isin(["/a [GET]", "/b [POST]"])].groupby("bin")["Measurement"]
    assert found.overall.label == "all requests"
    assert found.overall.count.sum() == requests.count().sum()
    _assert_equal(found.overall.p99_s, requests.quantile(0.99))


def test_strips_of_workers_are_those_of_pandas(recorded: TelemetryDB) -> None:
    found = strips(recorded)
    durations = _binned(recorded.duration().data_by_process(), found)
    requests = durations[durations["Label"].isin(["/a [GET]", "/b [POST]"])]
    runtime = _binned(recorded.runtime().data_by_process(), found)
    assert sorted(worker.life.process.pid for worker in found.workers) == [7, 8]
    for worker in found.workers:
        mine = runtime[runtime["PID"] == worker.life.process.pid]
        grouped = {
            label: mine[mine["Label"] == label].groupby("bin")["Measurement"]
            for label in mine["Label"].unique()
        }
        _assert_equal(worker.lag_max_s, grouped["event loop lag"].max())
        _assert_equal(worker.gc_pause_s, grouped["gc pause"].sum())
        _assert_equal(worker.gc_pause_max_s, grouped["gc pause"].max())
        _assert_equal(worker.cpu_percent, grouped["cpu percent"].mean())
        _assert_equal(worker.rss_bytes, grouped["rss"].max())
        _assert_equal(worker.in_flight, grouped["requests in flight"].max())
        counted = requests[requests["PID"] == worker.life.process.pid].groupby("bin")["Measurement"]
        assert worker.count.sum() == counted.count().sum()
        _assert_equal(worker.p99_s, counted.quantile(0.99))


def test_a_narrower_time_gives_narrower_bins_over_its_rows_only(recorded: TelemetryDB) -> None:
    begin_ns, end_ns = EPOCH_NS + 10 * 10**9, EPOCH_NS + 11 * 10**9
    found = strips(recorded, begin_ns, end_ns, 100)
    times = recorded.duration().data()["Timepoint"].to_numpy().astype(np.int64)
    labels = recorded.duration().data()["Label"].astype(str)
    inside = (times >= begin_ns) & (times < end_ns)
    assert found.window.width_ns == 10 * 10**6
    for route in found.routes:
        assert route.count.sum() == (inside & (labels == route.label)).sum()


def test_only_the_busiest_routes_and_workers_have_strips(recorded: TelemetryDB) -> None:
    found = strips(recorded, routes=1, workers=1)
    assert [route.label for route in found.routes] == ["/a [GET]"]
    assert (found.routes_left_out, len(found.workers), found.workers_left_out) == (2, 1, 1)
    assert list(found.sparklines) == ["/a [GET]", "/b [POST]", "block"]
    assert sum(found.sparklines["block"]) == 6000 - sum(
        sum(found.sparklines[label]) for label in ("/a [GET]", "/b [POST]")
    )


def test_routes_and_workers_may_be_named(recorded: TelemetryDB) -> None:
    found = strips(
        recorded, routes=["block", "unknown"], workers=[Process(8, "b" * 16), Process(1, "")]
    )
    assert [route.label for route in found.routes] == ["block", "unknown"]
    assert found.routes[1].count.sum() == 0
    assert [worker.life.process.pid for worker in found.workers] == [8]


def test_a_route_and_a_worker_may_be_named_in_addition_to_the_busiest(
    recorded: TelemetryDB,
) -> None:
    found = strips(recorded, routes=1, workers=1, also={"block", 7, 8, "unknown", 9})
    assert [route.label for route in found.routes] == ["/a [GET]", "block"]
    assert sorted(worker.life.process.pid for worker in found.workers) == [7, 8]
    assert (found.routes_left_out, found.workers_left_out) == (1, 0)


@pytest.mark.parametrize(("count", "bins"), [(100, 100), (4000, 200), (100_000, 400)])
def test_few_durations_have_few_bins(write: Write, load: Load, count: int, bins: int) -> None:
    write([(second, 0.1, "x", 7) for second in np.linspace(0, 399.9, count).tolist()])
    found = strips(load())
    assert bins / 2.5 < found.window.bins <= bins


def test_an_empty_recording_has_empty_strips(load: Load) -> None:
    found = strips(load()).as_dict()
    assert (found["routes"], found["workers"], found["marks"]) == ([], [], [])
    assert found["overall"]["count"] == [0]


def test_strips_are_values_for_json(recorded: TelemetryDB) -> None:
    found = strips(recorded)
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["version"] == 1
    assert values["bin_ms"] == found.window.width_ns / 1e6
    assert values["routes"][0]["count"] == found.routes[0].count.tolist()
    assert values["routes"][0]["p99_s"][9] == pytest.approx(found.routes[0].p99_s[9], rel=5e-5)
    assert values["workers"][0]["lag_max_s"][0] is None
    assert sum(values["routes"][0]["errors"]) == found.routes[0].errors["5xx"].sum()


@pytest.mark.parametrize("digits", [5, 9, 15])
def test_numbers_are_rounded_to_significant_digits(digits: int) -> None:
    chance = np.random.default_rng(3)
    values = chance.lognormal(0, 20, 5000) * chance.choice([-1.0, 1.0], 5000)
    values[:6] = np.nan, np.inf, 0.0, 1e300, 1e-300, 0.1 + 0.2
    found = _floats(values, digits)
    assert found[:3] == [None, None, 0]
    for value, rounded in zip(values[2:].tolist(), found[2:], strict=True):
        assert rounded is not None
        assert abs(rounded - value) <= abs(value) * 0.5000001 * 10.0 ** (1 - digits)
        if 1e-6 < abs(value) < 1e15:
            assert float(f"{rounded:.{digits}g}") == rounded
