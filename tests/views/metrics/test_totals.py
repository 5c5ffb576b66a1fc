from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.shipping.metrics.metric import MetricSeries
from aqltelemetry.shipping.metrics.samples import RSS
from aqltelemetry.views.metrics.totals import OTHER, Totals

_SINCE_NS = 1_000
_BOUNDS = (0.1, 1.0, math.inf)


def _rows(writer: str, *rows: tuple[int, str, float], pid: int = 1) -> Rows:
    labels: Sequence[str] = sorted({label for _, label, _ in rows})
    return Rows.of_process(
        Process(pid, writer),
        np.array([at_ns for at_ns, _, _ in rows], np.int64),
        np.array([value for _, _, value in rows], np.float64),
        np.array([labels.index(label) for _, label, _ in rows], np.int8),
        labels,
    )


def _counts(totals: Totals) -> dict[str, list[int]]:
    return {label: found.counts.tolist() for label, found in totals.durations.items()}


def test_durations_of_all_recordings_are_added_up_from_a_time_on() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS)
    totals.add("duration", _rows("a", (999, "x", 0.1), (1_000, "x", 0.1), (1_001, "x", 0.5)))
    totals.add("duration", _rows("b", (2_000, "x", 7.0), (2_000, "y", 0.0), (2_000, "y", math.nan)))
    assert _counts(totals) == {"x": [1, 1, 1], "y": [1, 0, 0]}
    assert dict(totals.durations.items())["x"].sum == 7.6
    assert totals.rows == 5


def test_labels_beyond_a_number_are_counted_together() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS, max_labels=2)
    totals.add("duration", _rows("a", *((2_000, label, 0.0) for label in "abcd")))
    totals.add("duration", _rows("a", *((3_000, label, 0.0) for label in "acx")))
    assert _counts(totals) == {"a": [2, 0, 0], "b": [1, 0, 0], OTHER: [4, 0, 0]}


def test_the_last_value_of_a_sample_counts_whatever_order_files_are_read_in() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS)
    totals.add("runtime", _rows("a", (3_000, "rss", 3.0), (2_000, "rss", 2.0)))
    totals.add("runtime", _rows("a", (2_500, "rss", 2.5)))
    assert totals.workers["a"].samples == {MetricSeries(RSS): 3.0}


def test_processor_time_grows_over_restarts_and_counts_from_a_time_on() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS)
    totals.note_older(["a"])
    totals.add("runtime", _rows("a", (2_000, "user time", 50.0), (3_000, "user time", 51.0)))
    assert totals.cpu_s() == {"user": 1.0, "system": 0}
    totals.add("runtime", _rows("b", (4_000, "user time", 0.5)))
    assert totals.cpu_s()["user"] == 1.5
    totals.add("runtime", _rows("a", (3_500, "user time", 51.5)))
    totals.add("runtime", _rows("b", (5_000, "user time", 2.0)))
    assert totals.cpu_s()["user"] == 3.5
    assert totals.started() == 1


def test_the_writers_of_a_forked_child_are_one_recording() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS)
    for writer, seconds in (("a", 1.0), ("b", 4.0)):
        totals.add("runtime", _rows(writer, (2_000, "user time", seconds)))
        totals.add("account", _rows(writer, (2_000, "child", 77.0)))
    assert (totals.started(), totals.cpu_s()["user"]) == (1, 4.0)
    totals.add("account", _rows("b", (3_000, "end", 0.0)))
    assert totals.ended() == {True: 0, False: 1}


def test_recordings_that_ended_are_counted_by_their_end() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS)
    for writer, end in (("a", 1.0), ("b", 0.0), ("c", 1.0)):
        totals.add("account", _rows(writer, (2_000, "end", end)))
    totals.add("account", _rows("d", (500, "end", 1.0)))
    assert totals.ended() == {True: 2, False: 1}


def test_requests_are_counted_by_worker_once_each() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS)
    labels = (
        "/a [GET]",
        "/a [GET] 5xx",
        "/a [GET] ttfb",
        "/ws [GET] websocket",
        "job",
        "unmatched",
    )
    totals.add("duration", _rows("a", *((2_000, label, 0.1) for label in labels)))
    totals.add("duration", _rows("a", (3_000, "/a [GET]", 0.1), (999, "/a [GET]", 0.1)))
    totals.add("duration", _rows("b", (2_000, "job", 0.1)))
    assert {writer: worker.requests for writer, worker in totals.workers.items()} == {
        "a": 3,
        "b": None,
    }


def test_stalls_are_a_histogram_of_each_worker_by_cause() -> None:
    totals = Totals(_SINCE_NS, _BOUNDS)
    totals.add("stall", _rows("a", (2_000, "no CPU", 0.06), (2_001, "no CPU", 0.5), pid=7))
    totals.add("stall", _rows("a", (3_000, "no CPU", 40.0), (3_001, "unknown", 0.1), pid=7))
    assert {
        (key.writer, *key.series.values): ([*found.counts], found.sum)
        for key, found in totals.stalls.items()
    } == {
        ("a", "no CPU"): ([0, 1, 0, 1, 0, 0, 0, 0, 0, 1], 40.56),
        ("a", "unknown"): ([0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 0.1),
    }
