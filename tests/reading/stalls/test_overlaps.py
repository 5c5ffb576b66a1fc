"""The slowest durations say what their process did meanwhile."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.reading.rows import Process
from aqltelemetry.reading.stalls.overlaps import stalls_by_process
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish
from stalled import detail, write_details

_S = 1_000_000_000
_MS = 1_000_000
_A, _B = PROCESSES[0], PROCESSES[1]


def _slowest(directory: Path) -> list[dict[str, object]]:
    return [*TelemetryDB(directory).slowest().to_dict("records")]  # type: ignore[list-item]


def test_a_request_has_the_stall_that_takes_most_of_it(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS + _S, 1.0, "/a [GET]", _A)])
    ends = {"no CPU": 0.1, "blocking wait": 0.6, "python code": 1.2}
    lengths = {"no CPU": 0.2, "blocking wait": 0.3, "python code": 0.3}
    lines = [
        detail(
            lengths[cause],
            cause,
            begin_ns=EPOCH_NS + round((ends[cause] - lengths[cause]) * _S),
            end_ns=EPOCH_NS + round(ends[cause] * _S),
        )
        for cause in ends
    ]
    write_details(tmp_path, *lines)
    rows = [Row(EPOCH_NS + round(2 * _S), lengths[cause], cause, _A) for cause in ends]
    publish(tmp_path, rows, "stall")
    (request,) = _slowest(tmp_path)
    assert request["stall_s"] == pytest.approx(0.1 + 0.3 + 0.1)
    assert request["stall_cause"] == "blocking wait"
    assert request["stall_line"] == "/srv/app.py:7"


def test_a_request_that_a_stall_only_touches_does_not_overlap_it(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS + _S, 0.5, "x", _A), Row(EPOCH_NS + 3 * _S, 1.0, "y", _A)])
    publish(tmp_path, [Row(EPOCH_NS + 2 * _S, 1.0, "no CPU", _A)], "stall")
    found = _slowest(tmp_path)
    assert [each["stall_s"] for each in found] == [0, 0]
    assert [each["stall_cause"] for each in found] == ["", ""]


def test_what_another_process_did_does_not_count(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS + _S, 1.0, "x", each) for each in (_A, _B)])
    publish(tmp_path, [Row(EPOCH_NS + _S, 0.5, "no CPU", _B)], "stall")
    pauses = [Row(EPOCH_NS + _S, 0.25, "gc pause", _A), Row(EPOCH_NS, 1.0, "rss", _B)]
    publish(tmp_path, pauses, "runtime")
    of = {str(each["writer"]): each for each in _slowest(tmp_path)}
    assert (of[_A[1]]["gc_s"], of[_B[1]]["gc_s"]) == (0.25, 0)
    assert math.isnan(float(str(of[_A[1]]["stall_s"])))
    assert (of[_B[1]]["stall_s"], of[_B[1]]["stall_cause"]) == (0.5, "no CPU")


def test_a_stall_on_a_thread_is_that_of_its_request_only(tmp_path: Path) -> None:
    spans = {"/own [GET]": 1.02, "/other [GET]": 0.5, "/longer [GET]": 2.0}
    publish(tmp_path, [Row(EPOCH_NS + _S, spans[label], label, _A) for label in spans])
    line = detail(1.0, "blocking wait", end_ns=EPOCH_NS + _S, in_thread="w-1", request="GET /own")
    write_details(tmp_path, line)
    publish(tmp_path, [Row(EPOCH_NS + _S, 1.0, "blocking wait", _A)], "stall")
    of = {str(each["label"]): each["stall_cause"] for each in _slowest(tmp_path)}
    assert of == {"/own [GET]": "blocking wait", "/other [GET]": "", "/longer [GET]": ""}
    (found,) = TelemetryDB(tmp_path).stall_lines().to_dict("records")
    assert (found["of_requests"], found["delayed"]) == (True, 0)


def test_without_samples_nothing_is_known_of_the_collector(tmp_path: Path) -> None:
    table = publish(tmp_path, [Row(EPOCH_NS, 1.0, "x", _A)]).slowest()
    assert table[["gc_s", "stall_s"]].isna().all(axis=None)
    assert table["stall_line"].tolist() == [""]


def test_spans_overlap_the_stalls_that_a_plain_search_finds(tmp_path: Path) -> None:
    chance = random.Random(5)
    rows = [
        Row(EPOCH_NS + chance.randrange(20_000) * _MS, chance.randrange(1, 900) / 1000, "c", _A)
        for _ in range(60)
    ]
    publish(tmp_path, rows, "stall")
    stalls = stalls_by_process(TelemetryDB(tmp_path).stalls(), {})[Process(*_A)]
    ends_ns = np.array([EPOCH_NS + chance.randrange(21_000) * _MS for _ in range(300)])
    begins_ns = ends_ns - np.array([chance.randrange(3_000) * _MS for _ in range(300)])
    bounds = [(row.at_ns - round(row.value * _S), row.at_ns) for row in rows]
    for begin_ns, end_ns, is_hit in zip(
        begins_ns.tolist(), ends_ns.tolist(), stalls.overlap(begins_ns, ends_ns), strict=True
    ):
        lengths = [min(end_ns, to) - max(begin_ns, of) for of, to in bounds]
        assert bool(is_hit) == (max(lengths) > 0) or begin_ns == end_ns
        number = stalls.longest(begin_ns, end_ns)
        assert (number >= 0) == (max(lengths) > 0)
        if number >= 0:
            found = sorted(rows)[number]
            own = min(end_ns, found.at_ns) - max(begin_ns, found.at_ns - round(found.value * _S))
            assert own == max(lengths)
