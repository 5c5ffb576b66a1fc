"""The slowest durations are those that a sort finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aqltelemetry.errors import SeriesError
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish, recorded

_S = 1_000_000_000
_NO_DURATIONS = ("4xx", "5xx", "disconnect", "ttfb")


@pytest.mark.parametrize("number", [0, 1, 7, 10_000])
def test_the_slowest_equal_a_plain_sort(tmp_path: Path, number: int) -> None:
    rows = recorded(3)
    table = publish(tmp_path, rows).slowest(number)
    parts = {f"/a [GET] {word}" for word in _NO_DURATIONS} | {"job failed"}
    expected = [row for row in rows if row.value == row.value and row.label not in parts]
    expected.sort(key=lambda row: (-row.value, row.at_ns))
    assert table["duration_s"].tolist() == [row.value for row in expected][:number]
    assert table["label"].tolist() == [row.label for row in expected][:number]
    found = zip(table["pid"], table["writer"], strict=True)
    assert list(found) == [row.process for row in expected][:number]
    assert [end.value for end in table["end"]] == [row.at_ns for row in expected][:number]


def test_a_duration_begins_its_length_before_its_end(tmp_path: Path) -> None:
    rows = [Row(EPOCH_NS, 0.123456789, "x", PROCESSES[0])]
    (row,) = publish(tmp_path, rows).slowest().to_dict("records")
    assert row["begin"].value == EPOCH_NS - 123_456_789
    assert row["end"] == pd.Timestamp(EPOCH_NS)


@pytest.mark.parametrize("outcome", ["4xx", "5xx", "disconnect", "failed"])
def test_the_outcome_is_that_of_the_same_request(tmp_path: Path, outcome: str) -> None:
    def both(at_ns: int, value: float, process: Any) -> list[Row]:
        return [Row(at_ns, value, label, process) for label in ("x", f"x {outcome}")]

    rows = [*both(EPOCH_NS, 3.0, PROCESSES[0]), Row(EPOCH_NS, 3.5, "x", PROCESSES[0])]
    rows += [Row(EPOCH_NS, 3.0, label, PROCESSES[1]) for label in ("x", "y")]
    rows += [Row(EPOCH_NS + 1, 3.0, "x", PROCESSES[0]), *both(EPOCH_NS, 1.0, PROCESSES[3])]
    table = publish(tmp_path, rows).slowest()
    failed = table[table["outcome"] != ""]
    assert failed["outcome"].tolist() == [outcome] * 2
    assert failed["duration_s"].tolist() == [3.0, 1.0]
    assert failed["pid"].tolist() == [PROCESSES[0][0], PROCESSES[3][0]]
    assert len(table) == 6


def test_the_slowest_of_a_label_are_only_those(tmp_path: Path) -> None:
    labels = ["x", "y", "x ttfb", "x 5xx", "z"]
    rows = [Row(EPOCH_NS, 1.0 + at, label, PROCESSES[0]) for at, label in enumerate(labels)]
    db = publish(tmp_path, rows)
    assert db.slowest(label="x")["label"].tolist() == ["x"]
    assert db.slowest(label=["x ttfb", "y"])["label"].tolist() == ["x ttfb", "y"]
    assert db.slowest()["label"].tolist() == ["z", "y", "x"]
    with pytest.raises(SeriesError, match="no"):
        db.slowest(label="no")
