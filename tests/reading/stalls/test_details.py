"""Details are read once, and again only where there is something new."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from aqltelemetry import TelemetryDB
from aqltelemetry.sinks import stall_details
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish
from stalled import WRITER, detail, write_details

_S = 1_000_000_000


def test_a_stall_that_is_published_has_details_that_are_not_yet(tmp_path: Path) -> None:
    path = tmp_path / stall_details.temporary(WRITER, 1)
    path.write_text(detail(0.25, "no CPU") + "\n")
    database = publish(tmp_path, [Row(EPOCH_NS, 0.25, "no CPU", PROCESSES[0])], "stall")
    assert database.stalls()["line"].tolist() == [7]


def test_details_that_are_written_later_are_joined_at_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / stall_details.temporary(WRITER, 1)
    path.write_text(detail(0.3, "no CPU") + "\n")
    rows = [Row(EPOCH_NS, length_s, "no CPU", PROCESSES[0]) for length_s in (0.3, 0.25)]
    database = publish(tmp_path, rows, "stall")
    assert database.stalls()["line"].tolist() == [7, 0]
    with path.open("a") as file:
        file.write(detail(0.25, "no CPU") + "\n")
    assert database.stalls()["line"].tolist() == [7, 7]


def test_what_was_read_is_kept_by_snapshots_and_not_read_again(tmp_path: Path) -> None:
    write_details(tmp_path, detail(0.25, "no CPU"))
    database = publish(tmp_path, [Row(EPOCH_NS, 0.25, "no CPU", PROCESSES[0])], "stall")
    assert database.stalls()["line"].tolist() == [7]
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text("")
    assert database.stalls()["line"].tolist() == [7]
    assert database.snapshot().stalls()["line"].tolist() == [7]


def test_details_outside_of_the_loaded_time_are_not_read(tmp_path: Path) -> None:
    write_details(tmp_path, detail(0.25, "no CPU"))
    publish(tmp_path, [Row(EPOCH_NS, 0.25, "no CPU", PROCESSES[0])], "stall")
    later = datetime.fromtimestamp(EPOCH_NS / _S + 60, UTC)
    database = TelemetryDB(tmp_path, since=later)
    assert len(database.stalls()) == 0
    _, details = database.details_of_stalls()
    assert details() == {}


def test_details_with_a_copy_in_another_directory_are_read_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_details(tmp_path / name, detail(0.25, "no CPU"))
    rows = [Row(EPOCH_NS + at, 0.25, "no CPU", PROCESSES[0]) for at in range(2)]
    publish(tmp_path / "a", rows, "stall")
    database = TelemetryDB([tmp_path / "a", tmp_path / "b"])
    assert database.stalls()["line"].tolist() == [7, 0]
    assert len(list(database.stall_details())) == 1


def test_a_line_of_another_version_is_left_out(tmp_path: Path) -> None:
    wrong = detail(0.25, "no CPU", user="a text")
    write_details(tmp_path, wrong, detail(0.5, "no CPU"))
    rows = [Row(EPOCH_NS, length_s, "no CPU", PROCESSES[0]) for length_s in (0.25, 0.5)]
    assert publish(tmp_path, rows, "stall").stalls()["line"].tolist() == [0, 7]
