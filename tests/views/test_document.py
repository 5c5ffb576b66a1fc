from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.errors import OptionError
from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.summaries import basis
from aqltelemetry.reading.summaries.cells import Cells
from aqltelemetry.views.columns import TABLES
from aqltelemetry.views.document import Options, document, shortened
from aqltelemetry.views.findings.finding import Finding, Severity
from fakes import EPOCH_NS
from pages import ROOT
from published import PROCESSES, Row, publish

_PAGE = ROOT / "docs" / "reference" / "report-json.md"


def _write(directory: Path, prefix: str, *rows: tuple[float, str, int]) -> None:
    text = "".join(f"{EPOCH_NS},{value},{label},{pid}\n" for value, label, pid in rows)
    (directory / f"{prefix}.1.csv").write_text("Timepoint,Measurement,Label,PID\n" + text)


def _labels(db: TelemetryDB, options: Options) -> list[str]:
    return [row["label"] for row in document(db, options)["durations"]]


def test_a_document_is_json_without_nan(db: TelemetryDB) -> None:
    made = document(db)
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_a_document_of_nothing_has_all_fields(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    made = document(TelemetryDB(tmp_path / "empty"))
    _write(tmp_path, "duration", (0.5, "/a [GET]", 7))
    assert list(made) == list(document(TelemetryDB(tmp_path)))
    assert made["durations"] == made["workers"] == []
    assert made["begin"] is None


def test_durations_are_seconds_and_counts_are_integers(db: TelemetryDB) -> None:
    first, second = document(db)["durations"]
    assert (first["label"], first["count"], first["max_s"]) == ("/v [GET]", 101, 0.101)
    assert first["per_s"] == pytest.approx(101 / 10.5, rel=1e-6)
    assert second["label"] == "rare"
    assert type(first["count"]) is int


def test_times_are_iso_texts_in_utc(db: TelemetryDB) -> None:
    made = document(db)
    assert made["begin"].startswith("2023-11-14T22:13:19.5")
    assert made["end"].startswith("2023-11-14T22:13:30")
    assert made["begin"].endswith("Z")


def test_slowest_durations_and_their_outcomes_are_listed(tmp_path: Path) -> None:
    rows = [(0.2, "/a [GET]", 7), (0.9, "/b [GET]", 8), (0.9, "/b [GET] 5xx", 8)]
    _write(tmp_path, "duration", *rows)
    first, second = document(TelemetryDB(tmp_path))["slowest"]
    assert (first["label"], first["duration_s"], first["outcome"]) == ("/b [GET]", 0.9, "5xx")
    assert (second["pid"], second["end"]) == (7, "2023-11-14T22:13:20.000000000Z")
    (only,) = document(TelemetryDB(tmp_path), Options(labels=["/a*"]))["slowest"]
    assert only == second
    assert document(TelemetryDB(tmp_path), Options(slowest=1))["slowest"] == [first]


def test_durations_are_sorted_once_for_all_tables_and_findings(
    db: TelemetryDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    sorted_rows: list[int] = []

    def cells(rows: Rows) -> Cells:
        sorted_rows.append(len(rows))
        return Cells(rows)

    monkeypatch.setattr(basis, "Cells", cells)
    document(db)
    assert sorted_rows == [len(db.rows("duration"))]


def test_errors_are_columns(tmp_path: Path) -> None:
    rows = [(0.2, "/a [GET]", 7), (0.2, "/a [GET] 4xx", 7), (0.1, "/a [GET] ttfb", 7)]
    _write(tmp_path, "duration", *rows)
    total, first_byte = document(TelemetryDB(tmp_path))["durations"]
    assert (total["label"], total["errors_4xx"]) == ("/a [GET]", 1)
    assert first_byte["label"] == "/a [GET] ttfb"


def test_what_is_not_known_is_none(db: TelemetryDB) -> None:
    first, second = document(db)["workers"]
    assert (first["pid"], first["rss_bytes"]) == (7, 2 << 20)
    assert (second["pid"], second["rss_bytes"]) == (8, None)


def test_drops_are_counted_by_reason(db: TelemetryDB) -> None:
    assert document(db)["dropped"] == {"count": 6, "reasons": {"no segment": 5, "torn": 1}}


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], ["/a [GET]", "/a [POST]", "/b [GET]", "b"]),
        (["/a*"], ["/a [GET]", "/a [POST]"]),
        (["*[GET]", "b"], ["/a [GET]", "/b [GET]", "b"]),
        (["/? [GET]"], ["/a [GET]", "/b [GET]"]),
        (["/A*"], []),
    ],
)
def test_labels_are_chosen_by_patterns(
    tmp_path: Path, patterns: list[str], found: list[str]
) -> None:
    _write(tmp_path, "duration", *((0.1, each, 7) for each in ["/a [GET]", "/a [POST]"]))
    _write(tmp_path, "custom", (1, "/a", 7), (1, "other", 7))
    rows = "".join(f"{EPOCH_NS},0.1,{label},7\n" for label in ("/b [GET]", "b"))
    (tmp_path / "duration.2.csv").write_text("Timepoint,Measurement,Label,PID\n" + rows)
    assert sorted(_labels(TelemetryDB(tmp_path), Options(labels=patterns))) == found


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        (None, ["often", "fast", "slow"]),
        ("max", ["slow", "often", "fast"]),
        ("max_s", ["slow", "often", "fast"]),
        ("label", ["fast", "often", "slow"]),
        ("PER-S", ["often", "fast", "slow"]),
        ("RSS MiB", ["often", "fast", "slow"]),
    ],
)
def test_a_table_is_sorted_by_any_of_its_columns(
    tmp_path: Path, sort: str | None, found: list[str]
) -> None:
    rows = [(0.2, "often", 7), (0.2, "often", 7), (0.1, "fast", 7), (0.9, "slow", 7)]
    _write(tmp_path, "duration", *rows)
    assert _labels(TelemetryDB(tmp_path), Options(sort=sort)) == found


def test_rows_with_an_unknown_value_are_last(db: TelemetryDB) -> None:
    rows = document(db, Options(sort="RSS MiB"))["workers"]
    assert [row["pid"] for row in rows] == [7, 8]


def test_an_unknown_column_is_an_error_that_lists_all(db: TelemetryDB) -> None:
    with pytest.raises(OptionError, match=r"must be a column: label, count, per s, .*RSS MiB"):
        Options(sort="p42")


def test_findings_about_other_labels_are_left_out(
    db: TelemetryDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        Finding("rule", f"About {label}.", Severity.ERROR, label, 7, EPOCH_NS, EPOCH_NS, {})
        for label in (None, "rare", "/v [GET]")
    ]
    monkeypatch.setattr("aqltelemetry.views.document.find", lambda _: found)
    made = document(db, Options(labels=["rare"]))["findings"]
    assert [each["label"] for each in made] == [None, "rare"]
    assert document(db)["findings"] == [each.as_dict() for each in found]


def test_rows_beyond_the_limit_are_counted(db: TelemetryDB) -> None:
    made = document(db, Options(top=1))
    assert len(made["durations"]) == len(made["workers"]) == 1
    left_out = {"durations": 1, "slowest": 0, "stalls": 0, "workers": 1, "values": 0}
    assert made["left_out"] == left_out
    assert document(db)["left_out"]["durations"] == 0


def test_rows_have_the_columns_of_their_table(db: TelemetryDB) -> None:
    made = document(db)
    for table, columns in TABLES.items():
        for row in made[table]:
            assert list(row) == [column.key for column in columns]


_OPEN = {"dropped.reasons", "findings[].figures", "stalls[].routes", "blocked.causes"}


def _fields(value: Any, path: str = "") -> set[str]:
    """Return the names of all fields of a document, those of rows as `workers[].pid`."""
    if isinstance(value, dict) and path not in _OPEN:
        found = {f"{path}.{key}".lstrip(".") for key in value}
        return found.union(
            *(_fields(each, f"{path}.{key}".lstrip(".")) for key, each in value.items())
        )
    if isinstance(value, list):
        return set().union(*(_fields(each, f"{path}[]") for each in value))
    return set()


def test_the_page_describes_each_field(db: TelemetryDB, tmp_path: Path) -> None:
    cells = re.findall(r"^\| `([^`]+)` \| (.+) \|$", _PAGE.read_text(), re.MULTILINE)
    described = dict(cells)
    assert len(described) == len(cells)
    columns = {f"{table}[].{each.key}": each.meaning for table in TABLES for each in TABLES[table]}
    (tmp_path / "stalls").mkdir()
    stalls = publish(tmp_path / "stalls", [Row(EPOCH_NS, 0.1, "no CPU", PROCESSES[0])], "stall")
    fields = _fields(document(db)) | _fields(document(stalls))
    assert "findings[].text" in fields
    assert {name: described.get(name) for name in columns} == columns
    assert fields - set(described) == set()
    others = set(described) - fields - set(columns)
    assert {name for name in others if not name.startswith("not_read[].")} == set()


def test_a_shortened_document_is_that_of_fewer_rows(db: TelemetryDB) -> None:
    fewer = Options(top=1, slowest=3)
    assert shortened(document(db, Options(slowest=20)), fewer) == document(db, fewer)
