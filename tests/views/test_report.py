from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from aqltelemetry import TelemetryDB
from aqltelemetry.sinks.file_names import FileName, enclosing
from aqltelemetry.views.report import dropped, durations, render, workers
from fakes import EPOCH_NS

_S = 1_000_000_000


@pytest.fixture
def db(tmp_path: Path) -> TelemetryDB:
    def write(name: str, rows: list[tuple[int, float, str, int]]) -> None:
        lines = [f"{EPOCH_NS + at},{value!r},{label},{pid}\n" for at, value, label, pid in rows]
        (tmp_path / name).write_text("Timepoint,Measurement,Label,PID\n" + "".join(lines))

    many = [(n * _S // 10, (n + 1) / 1000, "/v [GET]", 7 + n % 2) for n in range(101)]
    write("duration.1.csv", [*many, (5, 0.5, "rare", 7)])
    write(
        "runtime.1.csv",
        [
            *((1, 10, "gc collections", 7), (2, 13, "gc collections", 7)),
            (1, 4, "gc collections", 8),
            *((1, 0.002, "gc pause", 7), (2, 0.004, "gc pause", 7)),
            *((1, 0.002, "gc pause gen0", 7), (2, 0.004, "gc pause gen2", 7)),
            *((1, 1.0, "user time", 7), (2, 1.5, "user time", 7), (2, 0.25, "system time", 7)),
            *((1, 3 << 20, "rss", 7), (2, 2 << 20, "rss", 7)),
            *((1, 0.001, "event loop lag", 7), (2, 0.003, "event loop lag", 7)),
            *((1, 2.0, "telemetry dropped no segment", 7),),
            *((2, 5.0, "telemetry dropped no segment", 7), (2, 1.0, "telemetry dropped torn", 8)),
        ],
    )
    return TelemetryDB(tmp_path)


def test_durations_are_summarized_by_label(db: TelemetryDB) -> None:
    table = durations(db)
    values = np.arange(1, 102) / 1000
    assert list(table.index) == ["/v [GET]", "rare"]
    row = table.loc["/v [GET]"]
    assert row["count"] == 101
    assert row["per_second"] == pytest.approx(101 / 10.5, rel=1e-6)
    assert row["p50"] == pytest.approx(np.percentile(values, 50))
    assert row["p95"] == pytest.approx(np.percentile(values, 95))
    assert row["p99"] == pytest.approx(np.percentile(values, 99))
    assert row["max"] == 0.101


def test_the_series_of_a_request_follow_its_total(tmp_path: Path) -> None:
    labels = {
        "/a [GET]": 2,
        "/a [GET] disconnect": 1,
        "/a [GET] 4xx": 1,
        "/a [GET] ttfb": 2,
        "/b [GET]": 3,
        "/b [GET] ttfb": 3,
        "/b [GET] events": 1,
        "/b [GET] events ttfb": 1,
        "my own ttfb": 4,
        "/z [GET]": 2,
        "/c [GET] 5xx": 1,
    }
    lines = [f"{EPOCH_NS},1.0,{label},7\n" for label, count in labels.items() for _ in range(count)]
    (tmp_path / "duration.1.csv").write_text("Timepoint,Measurement,Label,PID\n" + "".join(lines))
    assert list(durations(TelemetryDB(tmp_path)).index) == [
        "my own ttfb",
        *("/b [GET]", "/b [GET] ttfb"),
        *("/a [GET]", "/a [GET] ttfb", "/a [GET] 4xx", "/a [GET] disconnect"),
        "/z [GET]",
        *("/b [GET] events", "/b [GET] events ttfb"),
        "/c [GET] 5xx",
    ]


def test_processes_are_summarized(db: TelemetryDB) -> None:
    table = workers(db)
    assert list(table.index) == [(7, ""), (8, "")]
    first, second = (row for _, row in table.iterrows())
    assert (first["durations"], second["durations"]) == (52, 50)
    assert first["gc_collections"] == 13
    assert (first["gc_pauses"], first["gc_pause_max_s"]) == (2, 0.004)
    assert first["gc_pause_s"] == pytest.approx(0.006)
    assert first["cpu_s"] == 1.75
    assert (first["rss_bytes"], first["rss_max_bytes"]) == (2 << 20, 3 << 20)
    assert first["lag_max_s"] == 0.003
    assert first["lag_p99_s"] == pytest.approx(0.00298)
    assert (first["dropped"], second["dropped"]) == (5, 1)
    assert (second["gc_pauses"], second["gc_pause_s"]) == (0, 0)
    assert np.isnan(second["gc_pause_max_s"])
    assert np.isnan(second["rss_bytes"])


def test_drops_are_the_last_totals_per_process_and_reason(db: TelemetryDB) -> None:
    assert dropped(db).to_dict() == {(7, "", "no segment"): 5.0, (8, "", "torn"): 1.0}


def test_processes_with_equal_pids_are_distinguished(tmp_path: Path) -> None:
    """Two containers may share a directory."""
    for number, (lost, cpu) in enumerate([(500.0, 3.0), (1.0, 0.5)]):
        text = f"{EPOCH_NS},{lost},telemetry dropped no segment,7\n"
        text += f"{EPOCH_NS},{cpu},user time,7\n{EPOCH_NS},0.0,system time,7\n"
        _published(tmp_path, "runtime", str(number), 1, text)
    db = TelemetryDB(tmp_path)
    assert list(workers(db)["cpu_s"]) == [3.0, 0.5]
    assert dropped(db).sum() == 501
    assert "dropped: 501 observations" in _rendered(db)


def test_drops_after_the_last_sample_are_in_the_accounts(tmp_path: Path) -> None:
    """The latest account has the totals; torn records are counted per account."""
    _account(tmp_path, "a", 1, (2, "dropped torn"), (3, "dropped no segment"))
    _account(tmp_path, "a", 2, (1, "dropped torn"), (9, "dropped no segment"), (4, "rows custom"))
    _account(tmp_path, "b", 1, (7, "dropped no segment"))
    sampled = f"{EPOCH_NS},5.0,telemetry dropped no segment,7\n"
    sampled += f"{EPOCH_NS},2.0,telemetry dropped invalid,7\n"
    _published(tmp_path, "runtime", "a", 1, sampled)
    a, b = "a" * 16, "b" * 16
    assert dropped(TelemetryDB(tmp_path)).to_dict() == {
        (7, a, "invalid"): 2,
        (7, a, "no segment"): 9,
        (7, a, "torn"): 3,
        (7, b, "no segment"): 7,
    }
    assert "dropped: 21 observations" in _rendered(TelemetryDB(tmp_path))


def test_one_drop_is_in_the_singular(tmp_path: Path) -> None:
    _account(tmp_path, "a", 1, (1, "dropped no segment"))
    assert "dropped: 1 observation (no segment 1)" in _rendered(TelemetryDB(tmp_path))


def test_drops_of_a_forked_child_count_once(tmp_path: Path) -> None:
    """Each of its writers has the same totals in its account."""
    for writer, drops in ("a", 3), ("b", 5):
        _account(tmp_path, writer, 1, (77, "child"), (drops, "dropped no segment"))
    _account(tmp_path, "c", 1, (78, "child"), (1, "dropped no segment"))
    assert dropped(TelemetryDB(tmp_path)).to_dict() == {
        (7, "a" * 16, "no segment"): 5,
        (7, "c" * 16, "no segment"): 1,
    }


def _account(directory: Path, writer: str, sequence: int, *rows: tuple[int, str]) -> None:
    text = "".join(f"{EPOCH_NS},{value},{label},7\n" for value, label in rows)
    _published(directory, "account", writer, sequence, text)


def _published(directory: Path, prefix: str, writer: str, sequence: int, text: str) -> None:
    name = FileName(prefix, *enclosing(EPOCH_NS, EPOCH_NS), 7, writer * 16, sequence, sequence, 0)
    (directory / str(name)).write_text("Timepoint,Measurement,Label,PID\n" + text)


def _rendered(db: TelemetryDB) -> str:
    output = io.StringIO()
    render(db, Console(file=output, width=120))
    return output.getvalue()


def test_the_report_shows_every_label_worker_and_drop(db: TelemetryDB) -> None:
    text = _rendered(db)
    lines = [line for line in text.splitlines() if "/v [GET]" in line]
    assert [cell.strip() for cell in lines[0].strip("│").split("│")] == [
        *("/v [GET]", "101", "9.6", "51.000", "96.000", "100.000", "101.000"),
    ]
    assert "dropped: 6 observations (no segment 5, torn 1)" in text


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
    (line,) = (line for line in _rendered(TelemetryDB(tmp_path)).splitlines() if "│ x" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")][:3] == ["x", "3", shown]
