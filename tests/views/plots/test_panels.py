from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views.plots.panels import events, panels, span, worker_panels
from aqltelemetry.views.strips import Strips, strips
from planted import planted


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> TelemetryDB:
    return TelemetryDB(planted("killed", 3).write(tmp_path_factory.mktemp("m")))


@pytest.fixture(scope="module")
def found(db: TelemetryDB) -> Strips:
    return strips(db, bins=60, routes=[db.summary().index[0]])


def test_bars_add_up_to_the_number_of_requests(db: TelemetryDB, found: Strips) -> None:
    label = db.summary().index[0]
    rate, _ = panels(found, with_overall=False)[:2]
    assert rate.title == f"{label}: per second"
    edges = rate.edges.astype(np.int64)
    seconds: Any = np.diff(np.clip(edges, *found.span)) / 1e9
    assert rate.bars[0].values @ seconds == pytest.approx(db.summary()["count"][label])
    errors = {bars.name: bars.values @ seconds for bars in rate.bars[1:]}
    assert errors["4xx"] == pytest.approx(db.summary()["errors_4xx"][label])


def test_lines_are_in_milliseconds_at_the_middle_of_the_bins(found: Strips) -> None:
    _, durations = panels(found, with_overall=False)[:2]
    p50, p99 = durations.lines
    known = np.isfinite(found.routes[0].p50_s)
    assert np.array_equal(p50.values[np.isfinite(p50.values)], found.routes[0].p50_s[known] * 1000)
    assert np.nanmax(p99.values) > np.nanmax(p50.values)
    width = durations.edges[1] - durations.edges[0]
    assert set(p50.times - durations.edges[0]) <= {
        width // 2 + number * width for number in range(len(durations.edges))
    }


def test_the_heat_map_counts_each_duration_once(db: TelemetryDB, found: Strips) -> None:
    heat = panels(found, with_overall=False)[1].heat
    assert heat is not None
    assert np.nansum(heat.counts) == db.summary()["count"].iloc[0]
    assert heat.counts.shape == (len(heat.edges_ms) - 1, found.window.bins)


def test_all_requests_come_first_where_no_label_is_wanted(db: TelemetryDB) -> None:
    shown = panels(strips(db, bins=60, routes=0), with_overall=True)
    assert shown[0].title == "all requests: per second"


def test_workers_have_a_panel_for_each_thing_that_is_known(found: Strips) -> None:
    titles = [panel.title for panel in worker_panels(found)]
    assert "workers: resident memory, MiB" in titles
    assert all(panel.lines and not panel.bars for panel in worker_panels(found))


def test_a_line_ends_where_its_process_was_killed(found: Strips) -> None:
    (mark,) = events(found)
    assert mark.kind == "kill"
    (memory,) = [each for each in worker_panels(found) if "memory" in each.title]
    last = min(line.times[-1] for line in memory.lines)
    begin, end = span(found)
    assert last < end
    assert abs(last - mark.at) < (end - begin) / 20


def test_a_line_is_interrupted_where_values_are_missing() -> None:
    from aqltelemetry.views.plots.panels import _line

    times = np.arange(40).astype("datetime64[s]").astype("datetime64[ns]")
    values = np.full(40, np.nan)
    values[[0, 2, 4, 6, 30, 32, 34]] = 1.0
    line = _line("x", times, values)
    assert [str(value) for value in line.values] == ["1.0"] * 4 + ["nan"] + ["1.0"] * 3
    assert (np.diff(line.times) > np.timedelta64(0)).all()
