from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views.columns import TABLES
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.text_forms import to_csv, to_markdown
from fakes import EPOCH_NS


@pytest.mark.parametrize("table", TABLES)
def test_csv_has_the_values_of_the_document(db: TelemetryDB, table: str) -> None:
    made = document(db)
    rows = list(csv.DictReader(io.StringIO(to_csv(made, table))))
    expected = [
        {key: "" if value is None else str(value) for key, value in row.items()}
        for row in made[table]
    ]
    assert rows == expected


def test_markdown_has_a_table_for_each_that_has_rows(db: TelemetryDB) -> None:
    text = to_markdown(document(db), [*TABLES])
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        *("## Durations, in ms", "## Slowest durations", "## Workers, times in ms")
    ]
    assert (
        "| `/v [GET]` | 101 | 9.6 | 51.000 | 91.000 | 96.000 | 100.000 | 100.900 | 101.000 |"
        in text
    )
    assert text.endswith("\nDropped: 6 observations.\n")


def test_markdown_says_how_many_rows_are_left_out(db: TelemetryDB) -> None:
    assert "\nAnd 1 more.\n" in to_markdown(document(db, Options(top=1)), ["durations"])


@pytest.mark.parametrize(
    ("label", "cell"),
    [
        ("a|b", "`a\\|b`"),
        ("a`b", "`` a`b ``"),
        ("<script>*_x", "`<script>*_x`"),
    ],
)
def test_no_label_breaks_a_table_of_markdown(tmp_path: Path, label: str, cell: str) -> None:
    row = f"{EPOCH_NS},1.0,{label},7\n"
    (tmp_path / "duration.1.csv").write_text("Timepoint,Measurement,Label,PID\n" + row)
    assert f"| {cell} | 1 |" in to_markdown(document(TelemetryDB(tmp_path)), ["durations"])
