from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aqltelemetry import TelemetryDB
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.report import render
from fakes import EPOCH_NS

_S = 1_000_000_000


def _rendered(db: TelemetryDB, width: int | None = None, **options: Any) -> str:
    """Return what is printed on a terminal of a width, or into a pipe."""
    output = io.StringIO()
    console = Console(file=output, width=width)
    render(document(db, Options(**options)), console, is_plain=width is None)
    return output.getvalue()


def _cells(text: str, label: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{label}  "))
    return re.split(r" {2,}", line)


def test_the_report_shows_every_label_worker_and_drop(db: TelemetryDB) -> None:
    text = _rendered(db)
    assert _cells(text, "/v [GET]") == [
        *("/v [GET]", "101", "9.6", "51.000", "91.000", "96.000", "100.000", "100.900"),
        *("101.000", "5.15"),
    ]
    assert "dropped: 6 observations (no segment 5, torn 1)" in text


def test_one_drop_is_in_the_singular(tmp_path: Path) -> None:
    rows = f"{EPOCH_NS},1,telemetry dropped no segment,7\n"
    (tmp_path / "runtime.1.csv").write_text("Timepoint,Measurement,Label,PID\n" + rows)
    assert "dropped: 1 observation (no segment 1)" in _rendered(TelemetryDB(tmp_path))


def test_an_empty_recording_gives_an_empty_report(tmp_path: Path) -> None:
    assert "dropped: 0 observations" in _rendered(TelemetryDB(tmp_path))


def test_a_label_that_looks_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(
        f"Timepoint,Measurement,Label,PID\n{EPOCH_NS},1.0,[red]/x[/red] [GET],7\n"
    )
    assert "[red]/x[/red] [GET]" in _rendered(TelemetryDB(tmp_path))


def test_durations_below_ten_microseconds_are_shown_to_the_nanosecond(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(
        f"Timepoint,Measurement,Label,PID\n{EPOCH_NS},0.000001234,x,7\n"
    )
    assert "0.001234" in _rendered(TelemetryDB(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(6, "0.50"), (600, "0.0050"), (3, "1.0"), (1, "3.0"), (0.001, "3.0"), (450, "0.0067")],
)
def test_rates_are_readable_however_small(tmp_path: Path, seconds: float, shown: str) -> None:
    at_ns = EPOCH_NS + int(seconds * _S)
    times = (EPOCH_NS, (EPOCH_NS + at_ns) // 2, at_ns)
    rows = "".join(f"{at},0.0,x,7\n" for at in times)
    (tmp_path / "duration.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{rows}")
    assert _cells(_rendered(TelemetryDB(tmp_path)), "x")[:3] == ["x", "3", shown]


@pytest.mark.parametrize(
    ("label", "shown"),
    [("a\x1b[31mred", "a\\x1b[31mred"), ("\u202elive", "\\u202elive"), ("日本", "日本")],
)
def test_a_label_does_not_control_the_terminal(tmp_path: Path, label: str, shown: str) -> None:
    row = f"{EPOCH_NS},1.0,{label},7\n"
    (tmp_path / "duration.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{row}")
    assert f"\n{shown} " in _rendered(TelemetryDB(tmp_path))


def test_a_finding_is_wrapped_on_a_terminal_only(db: TelemetryDB) -> None:
    finding = {"severity": "warning", "text": "word " * 40 + "end."}
    for width, lines in ((None, 1), (80, 3)):
        output = io.StringIO()
        console = Console(file=output, width=width)
        made = {**document(db), "findings": [finding]}
        render(made, console, is_plain=width is None)
        text = output.getvalue().partition("findings\n")[2].partition("\n\n")[0]
        assert text.startswith("! word")
        assert len(text.splitlines()) == lines
        assert all(line.startswith("  word") for line in text.splitlines()[1:])


def test_no_word_of_a_finding_is_cut(db: TelemetryDB) -> None:
    output = io.StringIO()
    made = {**document(db), "findings": [{"severity": "error", "text": f"{'/long' * 30} is slow."}]}
    render(made, Console(file=output, width=60), is_plain=False)
    assert "/long" * 30 in output.getvalue().replace("\n", "").replace(" ", "")
