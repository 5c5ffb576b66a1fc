"""Stalls are summarized by cause and line, with the requests that they delayed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.reading.stalls import lines as stall_lines
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish
from stalled import detail, write_details

_S = 1_000_000_000
_MS = 1_000_000
_A, _B = PROCESSES[0], PROCESSES[1]


def test_a_cause_has_a_row_for_each_line(tmp_path: Path) -> None:
    at = [(0.1, 7), (0.2, 9), (0.4, 7)]
    for number, (length_s, line) in enumerate(at, 1):
        begin_ns = EPOCH_NS + number * _S
        user = {"file": "/srv/app.py", "line": line, "function": "view"}
        end_ns = begin_ns + round(length_s * _S)
        text = detail(length_s, "python code", begin_ns=begin_ns, end_ns=end_ns, user=user)
        write_details(tmp_path, text, number=number)
    rows = [Row(EPOCH_NS + 9 * _S, length_s, "python code", _A) for length_s, _ in at]
    publish(tmp_path, [*rows, Row(EPOCH_NS, 0.3, "python code", _B)], "stall")
    first, second, third = TelemetryDB(tmp_path).stall_lines().to_dict("records")
    assert (first["line"], first["function"], first["count"]) == ("/srv/app.py:7", "view", 2)
    assert (first["total_s"], first["longest_s"]) == (pytest.approx(0.5), 0.4)
    assert first["first"].value == EPOCH_NS + _S
    assert first["last"].value == EPOCH_NS + 3 * _S + 400 * _MS
    assert (second["line"], second["workers"], second["total_s"]) == ("", 1, 0.3)
    assert third["line"] == "/srv/app.py:9"


@pytest.mark.parametrize("most_s", [0.3, 3.0, 15.0])
def test_delayed_requests_are_those_that_a_plain_search_finds(
    most_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall_lines, "_CHUNK_PAIRS", 7)
    chance = random.Random(3)

    def row(label: str, most_s: float) -> Row:
        process = PROCESSES[chance.randrange(2)]
        at_ns = EPOCH_NS + chance.randrange(20_000) * _MS
        return Row(at_ns, chance.randrange(1, int(most_s * 1000)) / 1000, label, process)

    labels = ("/a [GET]", "/a [GET] 5xx", "/a [GET] ttfb", "/b [GET]", "a block", "/w [GET] events")
    requests = [row(chance.choice(labels), most_s) for _ in range(400)]
    stalls = [row(chance.choice(("no CPU", "python code")), 0.5) for _ in range(40)]
    publish(tmp_path, requests)
    publish(tmp_path, stalls, "stall")
    expected: dict[str, Counter[str]] = {"no CPU": Counter(), "python code": Counter()}
    for request in requests:
        overlapped = {
            stall.label
            for stall in stalls
            if stall.process == request.process
            and stall.at_ns - round(stall.value * _S) < request.at_ns
            and stall.at_ns > request.at_ns - round(request.value * _S)
        }
        for cause in overlapped if request.label in ("/a [GET]", "/b [GET]") else ():
            expected[cause][request.label] += 1
    found = TelemetryDB(tmp_path).stall_lines()
    assert dict(zip(found["cause"], found["routes"], strict=True)) == expected
    totals = [sum(expected[cause].values()) for cause in found["cause"]]
    assert found["delayed"].tolist() == totals


def test_a_line_has_the_requests_that_blocked_and_their_blocks(tmp_path: Path) -> None:
    for number, (route, blocks) in enumerate(
        [("/a [GET]", ["load"]), ("/b [GET]", ["load", "parse"]), ("/b [GET]", []), ("", [])], 1
    ):
        length_s = number / 10
        text = detail(length_s, "python code", route=route, blocks=blocks)
        write_details(tmp_path, text, number=number)
    rows = [Row(EPOCH_NS + _S, number / 10, "python code", _A) for number in range(1, 5)]
    (line,) = publish(tmp_path, rows, "stall").stall_lines().to_dict("records")
    assert [*line["handlers"].items()] == [("/b [GET]", 2), ("/a [GET]", 1)]
    assert [*line["blocks"].items()] == [("load", 2), ("parse", 1)]


def test_blocks_are_delayed_where_there_are_no_requests(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS, 1.0, "job", _A)])
    publish(tmp_path, [Row(EPOCH_NS, 0.1, "no CPU", _A)], "stall")
    assert TelemetryDB(tmp_path).stall_lines()["routes"].tolist() == [{"job": 1}]


def test_without_stalls_the_table_has_its_columns(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS, 1.0, "x", _A)])
    table = TelemetryDB(tmp_path).stall_lines()
    assert len(table) == 0
    assert {"cause", "line", "count", "delayed", "routes"} <= {*table.columns}
