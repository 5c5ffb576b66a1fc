"""The strip of stalls has their time by cause, and the longest ones with their details."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views.document import document
from aqltelemetry.views.html import report_html
from aqltelemetry.views.strips import strips
from aqltelemetry.views.strips.stalls import MAX_LISTED
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish
from stalled import detail, write_details

_S = 1_000_000_000
_MS = 1_000_000


def test_the_time_of_each_cause_is_in_its_bins_and_stalls_have_their_details(
    tmp_path: Path,
) -> None:
    publish(tmp_path, [Row(EPOCH_NS + at * _S, 0.1, "x", PROCESSES[0]) for at in range(1, 9)])
    times = {"begin_ns": EPOCH_NS + 4 * _S, "end_ns": EPOCH_NS + 4 * _S + _S // 4}
    write_details(tmp_path, detail(0.25, "blocking wait", **times))
    publish(tmp_path, [Row(EPOCH_NS + 5 * _S, 0.25, "blocking wait", PROCESSES[0])], "stall")
    found = strips(TelemetryDB(tmp_path)).as_dict()
    stalls = json.loads(json.dumps(found["stalls"]))
    assert sum(stalls["causes"]["blocking wait"]) == pytest.approx(0.25, abs=1e-4)
    (stall,) = stalls["listed"]
    assert (stall["begin_ms"], stall["line"]) == (times["begin_ns"] / _MS, "/srv/app.py:7")
    assert (stall["task"], stall["shares"]) == ("slow", {"blocking wait": 1.0})
    assert (stall["run_delay_s"], stalls["left_out"]) == (None, 0)


def test_of_many_stalls_the_longest_in_the_span_are_listed_by_time(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS, 0.1, "x", PROCESSES[0])])
    number = MAX_LISTED + 20
    rows = [
        Row(EPOCH_NS + at * _S, 0.1 + at / 1000, "no CPU", PROCESSES[0]) for at in range(number)
    ]
    publish(tmp_path, rows, "stall")
    db = TelemetryDB(tmp_path)
    whole = strips(db, EPOCH_NS - _S, EPOCH_NS + number * _S).stalls
    assert whole is not None
    assert [each["end_ns"] for each in whole.listed] == [row.at_ns for row in rows[20:]]
    assert whole.left_out == 20
    part = strips(db, EPOCH_NS + 9 * _S + _S // 2, EPOCH_NS + 10 * _S + _S // 2).stalls
    assert part is not None
    assert [each["end_ns"] for each in part.listed] == [EPOCH_NS + 10 * _S]


def test_without_stalls_there_is_no_strip_of_them(tmp_path: Path) -> None:
    db = publish(tmp_path, [Row(EPOCH_NS, 0.1, "x", PROCESSES[0])])
    assert strips(db).as_dict()["stalls"] is None


def test_the_page_has_a_colour_for_each_cause_in_both_themes(tmp_path: Path) -> None:
    db = publish(tmp_path, [Row(EPOCH_NS, 0.1, "no CPU", PROCESSES[0])], "stall")
    page = report_html(db, document(db))
    assert page.count("--cause-P:") == 2
    assert '"no CPU":"C"' in page
