from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.sinks.file_names import FileName, enclosing
from aqltelemetry.views.summary import summarize
from fakes import EPOCH_NS


def test_durations_are_summarized_by_label(db: TelemetryDB) -> None:
    table = summarize(db).durations
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
    assert list(summarize(TelemetryDB(tmp_path)).durations.index) == [
        "my own ttfb",
        *("/b [GET]", "/b [GET] ttfb"),
        *("/a [GET]", "/a [GET] ttfb", "/a [GET] 4xx", "/a [GET] disconnect"),
        "/z [GET]",
        *("/b [GET] events", "/b [GET] events ttfb"),
        "/c [GET] 5xx",
    ]


def test_processes_are_summarized(db: TelemetryDB) -> None:
    table = summarize(db).processes
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
    assert summarize(db).dropped.to_dict() == {(7, "", "no segment"): 5.0, (8, "", "torn"): 1.0}


def test_processes_with_equal_pids_are_distinguished(tmp_path: Path) -> None:
    """Two containers may share a directory."""
    for number, (lost, cpu) in enumerate([(500.0, 3.0), (1.0, 0.5)]):
        text = f"{EPOCH_NS},{lost},telemetry dropped no segment,7\n"
        text += f"{EPOCH_NS},{cpu},user time,7\n{EPOCH_NS},0.0,system time,7\n"
        _publish_rows(tmp_path, "runtime", str(number), 1, text)
    db = TelemetryDB(tmp_path)
    assert list(summarize(db).processes["cpu_s"]) == [3.0, 0.5]
    assert summarize(db).dropped.sum() == 501


def test_drops_after_the_last_sample_are_in_the_accounts(tmp_path: Path) -> None:
    """The latest account has the totals; torn records are counted per account."""
    _write_account(tmp_path, "a", 1, (2, "dropped torn"), (3, "dropped no segment"))
    _write_account(
        tmp_path, "a", 2, (1, "dropped torn"), (9, "dropped no segment"), (4, "rows custom")
    )
    _write_account(tmp_path, "b", 1, (7, "dropped no segment"))
    sampled = f"{EPOCH_NS},5.0,telemetry dropped no segment,7\n"
    sampled += f"{EPOCH_NS},2.0,telemetry dropped invalid,7\n"
    _publish_rows(tmp_path, "runtime", "a", 1, sampled)
    a, b = "a" * 16, "b" * 16
    summary = summarize(TelemetryDB(tmp_path))
    assert summary.dropped.to_dict() == {
        (7, a, "invalid"): 2,
        (7, a, "no segment"): 9,
        (7, a, "torn"): 3,
        (7, b, "no segment"): 7,
    }
    assert summary.dropped_by_reason() == {"invalid": 2, "no segment": 16, "torn": 3}


def test_drops_of_a_forked_child_count_once(tmp_path: Path) -> None:
    """Each of its writers has the same totals in its account."""
    for writer, drops in ("a", 3), ("b", 5):
        _write_account(tmp_path, writer, 1, (77, "child"), (drops, "dropped no segment"))
    _write_account(tmp_path, "c", 1, (78, "child"), (1, "dropped no segment"))
    assert summarize(TelemetryDB(tmp_path)).dropped.to_dict() == {
        (7, "a" * 16, "no segment"): 5,
        (7, "c" * 16, "no segment"): 1,
    }


def _write_account(directory: Path, writer: str, sequence: int, *rows: tuple[int, str]) -> None:
    text = "".join(f"{EPOCH_NS},{value},{label},7\n" for value, label in rows)
    _publish_rows(directory, "account", writer, sequence, text)


def _publish_rows(directory: Path, prefix: str, writer: str, sequence: int, text: str) -> None:
    name = FileName(prefix, *enclosing(EPOCH_NS, EPOCH_NS), 7, writer * 16, sequence, sequence, 0)
    (directory / str(name)).write_text("Timepoint,Measurement,Label,PID\n" + text)
