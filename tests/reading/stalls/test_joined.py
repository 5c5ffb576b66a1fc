"""Stalls are joined with their details, and shown without those that were lost."""

from __future__ import annotations

import math
from pathlib import Path

from aqltelemetry import TelemetryDB
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish
from stalled import detail, write_details

_S = 1_000_000_000


def test_a_stall_has_the_line_the_task_and_the_times_of_its_details(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS + _S, 0.25, "blocking wait", PROCESSES[0])]
    write_details(tmp_path, detail(0.3, "no CPU", user=None), detail(0.25, "blocking wait"))
    (stall,) = publish(tmp_path, rows, "stall").stalls().to_dict("records")
    assert (stall["cause"], stall["length_s"], stall["task"]) == ("blocking wait", 0.25, "slow")
    assert (stall["file"], stall["line"], stall["function"]) == ("/srv/app.py", 7, "view")
    assert (stall["begin"].value, stall["end"].value) == (EPOCH_NS, EPOCH_NS + _S // 4)
    assert (stall["waits_for"], stall["cpu_s"], stall["is_exact"]) == ("sleep", 0.001, True)
    assert math.isnan(stall["run_delay_s"])
    assert stall["shares"] == {"blocking wait": 1.0}


def test_equal_stalls_of_other_processes_have_no_details_of_this_one(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS + _S * at, 0.25, "no CPU", PROCESSES[at]) for at in (0, 1)]
    write_details(tmp_path, detail(0.25, "no CPU"))
    table = publish(tmp_path, rows, "stall").stalls()
    assert table["line"].tolist() == [7, 0]
    assert table["writer"].tolist() == [PROCESSES[0][1], PROCESSES[1][1]]


def test_a_stall_without_details_has_its_length_and_cause(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS + _S, 0.25, "page faults", PROCESSES[0])]
    (stall,) = publish(tmp_path, rows, "stall").stalls().to_dict("records")
    assert (stall["cause"], stall["file"], stall["line"]) == ("page faults", "", 0)
    assert (stall["begin"].value, stall["end"].value) == (EPOCH_NS + _S * 3 // 4, EPOCH_NS + _S)
    assert stall["shares"] == {}


def test_without_stalls_the_table_is_empty_and_has_its_columns(tmp_path: Path) -> None:
    table = TelemetryDB(tmp_path).stalls()
    assert len(table) == 0
    assert {"begin", "end", "length_s", "cause", "file", "line", "shares"} <= {*table.columns}


def test_files_of_details_are_no_files_that_could_not_be_read(tmp_path: Path) -> None:
    write_details(tmp_path, detail(0.25, "no CPU"))
    database = TelemetryDB(tmp_path)
    assert len(database.stalls()) == 0
    assert database.not_read() == []
    assert len(list(database.stall_details())) == 1


def test_a_stall_has_the_request_the_blocks_and_all_else_of_its_details(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS + _S, 0.25, "blocking I/O", PROCESSES[0])]
    thread_line = {"file": "/srv/app.py", "line": 9, "function": "work", "votes": 1.0}
    changes = {
        "earliest_ns": EPOCH_NS - 1,
        "route": "/users/{id} [GET]",
        "blocks": ["load", "parse"],
        "waits_on": "socket to 10.0.0.5:5432",
        "thread_line": thread_line,
        "is_ended": False,
        "gc_generation": 2,
        "major_faults": 3,
    }
    write_details(tmp_path, detail(0.25, "blocking I/O", **changes))
    (stall,) = publish(tmp_path, rows, "stall").stalls().to_dict("records")
    assert stall["earliest"].value == EPOCH_NS - 1
    assert (stall["route"], [*stall["blocks"]]) == ("/users/{id} [GET]", ["load", "parse"])
    assert stall["waits_on"] == "socket to 10.0.0.5:5432"
    assert stall["thread_line"] == "/srv/app.py:9 in work"
    assert (stall["is_ended"], stall["gc_generation"], stall["major_faults"]) == (False, 2, 3)


def test_details_of_an_earlier_version_have_no_request_and_no_blocks(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS + _S, 0.25, "blocking wait", PROCESSES[0])]
    write_details(tmp_path, detail(0.25, "blocking wait"))
    (stall,) = publish(tmp_path, rows, "stall").stalls().to_dict("records")
    assert (stall["route"], stall["blocks"], stall["waits_on"]) == ("", (), "")
    assert (stall["is_ended"], stall["earliest"]) == (True, stall["begin"])
    assert math.isnan(stall["gc_generation"])
