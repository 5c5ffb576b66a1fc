from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zstandard

from aqltelemetry import TelemetryDB
from aqltelemetry.errors import MomentError, MonitoringDirectoryError, OptionError, SeriesError
from aqltelemetry.observation import MAX_LABEL_BYTES, failed_label
from aqltelemetry.reading.arguments import Moment
from aqltelemetry.reading.csv_frames import ForeignFileWarning
from aqltelemetry.reading.frames import TelemetrySeries
from aqltelemetry.sinks.file_names import FileName, enclosing, parse
from aqltelemetry.system.clock import epoch_ns
from fakes import EPOCH_NS
from published import Row as PublishedRow
from published import publish

_HEADER = "Timepoint,Measurement,Label,PID\n"
_S = 1_000_000_000
Row = tuple[int, str, str, int]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def _write(directory: Path, rows: list[Row], prefix: str = "duration", part: int = 0) -> Path:
    """Write a file as the sink would, with the times of its rows in its name."""
    times = [at for at, *_ in rows]
    writer = f"{hash(tuple(rows)) & 0xFFFFFFFFFFFFFFFF:016x}"
    span = enclosing(min(times), max(times))
    path = directory / str(FileName(prefix, *span, rows[0][3], writer, 1, 1, part))
    path.write_text(_HEADER + "".join(f"{t},{m},{label},{pid}\n" for t, m, label, pid in rows))
    return path


@pytest.fixture
def recorded(directory: Path) -> Path:
    """Two processes, two labels; the files are not in the order of their times."""
    _write(directory, [(EPOCH_NS + 3, "0.3", "/v [GET]", 7), (EPOCH_NS + 1, "0.1", "/v [GET]", 7)])
    _write(directory, [(EPOCH_NS + 2, "0.2", "/v [GET]", 8), (EPOCH_NS + 4, "4.0", "/w [GET]", 8)])
    _write(directory, [(EPOCH_NS + 5, "11", "gc collections", 7)], "runtime")
    return directory


def test_a_series_is_sorted_by_time_over_all_workers(recorded: Path) -> None:
    series = TelemetryDB(recorded).duration().time_series("/v [GET]").data()
    assert list(series) == [0.1, 0.2, 0.3]
    assert isinstance(series.index, pd.DatetimeIndex)
    assert series.index.name == "Timepoint"
    assert series.index.is_monotonic_increasing
    assert series.index.dtype == np.dtype("datetime64[ns]")
    assert [stamp.value for stamp in series.index] == [EPOCH_NS + n for n in (1, 2, 3)]


def test_a_series_has_its_label_and_pids(recorded: Path) -> None:
    series = TelemetryDB(recorded).duration().time_series("/v [GET]")
    assert isinstance(series, TelemetrySeries)
    assert series.label() == "/v [GET]"
    assert series.pids() == [7, 8]
    assert repr(series) == "<TelemetrySeries '/v [GET]': 3 observations>"


@pytest.mark.parametrize(("pid", "values"), [(7, [0.1, 0.3]), (8, [0.2]), (9, []), (0, [])])
def test_a_series_can_be_limited_to_one_process(
    recorded: Path, pid: int, values: list[float]
) -> None:
    series = TelemetryDB(recorded).duration().time_series("/v [GET]")
    assert list(series.data(by_pid=pid)) == values


def test_a_label_that_was_never_recorded_is_an_error_that_lists_similar_ones(
    recorded: Path,
) -> None:
    duration = TelemetryDB(recorded).duration()
    for label in ("/v", "/v [get]", "/V [GET]", "v [GET"):
        with pytest.raises(SeriesError, match=r"similar: '/v .GET.'") as caught:
            duration.time_series(label)
        assert caught.value.name == label
        assert caught.value.similar[0] == "/v [GET]"
    with pytest.raises(LookupError, match=r"'nothing like it' \(missing_ok=True"):
        duration.time_series("nothing like it")


def test_a_missing_series_is_empty_with_missing_ok(recorded: Path) -> None:
    series = TelemetryDB(recorded).duration().time_series("/none", missing_ok=True).data()
    assert series.empty
    assert isinstance(series.index, pd.DatetimeIndex)
    assert series.resample("1s").count().empty
    assert TelemetryDB(recorded).max_rss().data().empty


def test_a_prefix_without_files_is_an_error_that_lists_similar_ones(recorded: Path) -> None:
    _write(recorded, [(EPOCH_NS, "1", "x", 7)], "queue")
    db = TelemetryDB(recorded)
    for prefix, similar in (("durations", "duration"), ("Runtime", "runtime"), ("queues", "queue")):
        with pytest.raises(SeriesError) as caught:
            db.frame(prefix)
        assert caught.value.similar[0] == similar
    with pytest.raises(SeriesError):
        TelemetryDB.from_csv_files(recorded, "durations")
    assert db.frame("durations", missing_ok=True).data().empty
    assert db.frame("custom").data().empty
    assert len(db.frame("queue").data()) == 1


def test_a_directory_without_files_is_not_an_error(directory: Path) -> None:
    db = TelemetryDB(directory, labels="/orders [GET]")
    assert db.frame("queue").data().empty
    assert db.duration().time_series("/orders [GET]").data().empty
    _write(directory, [(EPOCH_NS, "1", "/orders [GET]", 7)])
    db.refresh()
    assert len(db.duration().time_series("/orders [GET]").data()) == 1


def test_the_outcomes_of_chosen_labels_are_loaded(tmp_path: Path) -> None:
    labels = ["/a [GET]", "/a [GET] 5xx", "/a [GET] 4xx", "/a [GET] ttfb", "/a [POST] 5xx", "job"]
    long = "x" * MAX_LABEL_BYTES
    labels += ["job failed", "other failed", long, failed_label(long)]
    publish(tmp_path, [PublishedRow(EPOCH_NS, 1.0, label, (7, "a" * 16)) for label in labels])
    db = TelemetryDB(tmp_path, labels="/a [GET]")
    assert db.duration().labels() == ["/a [GET]", "/a [GET] 4xx", "/a [GET] 5xx"]
    table = db.summary()
    assert table.index.tolist() == ["/a [GET]"]
    assert table[["errors_4xx", "errors_5xx"]].to_numpy().tolist() == [[1, 1]]
    for label in ("job", long):
        table = TelemetryDB(tmp_path, labels=[label]).summary()
        assert (table.index.tolist(), table["failures"].tolist()) == ([label], [1])


def test_one_label_can_be_given_as_a_text(recorded: Path) -> None:
    assert TelemetryDB(recorded, labels="/w [GET]").duration().labels() == ["/w [GET]"]


@pytest.mark.parametrize("labels", [5, [5], [None], b"/w [GET]"])
def test_labels_other_than_texts_are_an_error(recorded: Path, labels: object) -> None:
    with pytest.raises(OptionError, match=r"labels=.*must be a label, or several"):
        TelemetryDB(recorded, labels=labels)  # type: ignore[arg-type]


def test_a_misspelt_label_is_reported_if_only_that_label_is_loaded(recorded: Path) -> None:
    db = TelemetryDB(recorded, labels=["/v [GETT]", "/w [GET]"])
    with pytest.raises(SeriesError) as caught:
        db.duration().time_series("/v [GETT]")
    assert caught.value.similar == ("/v [GET]", "/w [GET]")
    with pytest.raises(SeriesError, match=r"only other labels are loaded: '/v .GET.'"):
        db.duration().time_series("/v [GET]")


def test_frames_have_a_time_index(recorded: Path) -> None:
    db = TelemetryDB(recorded)
    for frame in (db.duration().data(), db.duration().data_by_process()):
        assert isinstance(frame.index, pd.DatetimeIndex)
        assert list(frame.index) == list(frame["Timepoint"])
        assert frame["Measurement"].resample("1ns").count().sum() == 4
        assert len(frame.groupby("Timepoint")) == len(frame.sort_values("Timepoint")) == 4
    by_label = db.duration().data().groupby("Label", observed=True)["Measurement"]
    assert by_label.resample("1s").sum().round(6).to_list() == [0.6, 4.0]
    assert isinstance(TelemetryDB(recorded, labels=[]).duration().data().index, pd.DatetimeIndex)


def test_a_frame_has_its_labels_and_pids(recorded: Path) -> None:
    frame = TelemetryDB(recorded).duration()
    assert frame.labels() == ["/v [GET]", "/w [GET]"]
    assert frame.pids() == [7, 8]
    assert list(frame.data().columns) == ["Timepoint", "Measurement", "Label", "PID"]
    assert frame.data()["Label"].dtype == "category"
    assert repr(frame) == "<TelemetryFrame: 4 observations, 2 labels>"


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("gc_collections", "gc collections"),
        ("gc_collected", "gc collected"),
        ("gc_uncollectable", "gc uncollectable"),
        ("max_rss", "max rss"),
        ("user_time", "user time"),
        ("system_time", "system time"),
    ],
)
def test_each_built_in_runtime_series_has_a_method(
    directory: Path, method: str, label: str
) -> None:
    _write(directory, [(EPOCH_NS, "11", label, 7), (EPOCH_NS, "12", "another", 7)], "runtime")
    series = getattr(TelemetryDB(directory), method)()
    assert (series.label(), list(series.data())) == (label, [11.0])


def test_rows_have_the_writer_in_their_files_name(recorded: Path) -> None:
    (recorded / "duration.older.csv").write_text(_HEADER + f"{EPOCH_NS},1,old,7\n\n")
    db = TelemetryDB(recorded)
    rows = db.duration().data_by_process()
    by_label = rows.astype({"Writer": str}).groupby("Label", observed=True)["Writer"].unique()
    assert list(by_label["old"]) == [""]
    names = [parse(path.name) for path in recorded.glob("duration.*.csv")]
    writers = {name.pid: name.writer for name in names if name}
    assert set(by_label["/v [GET]"]) == set(writers.values())
    assert list(by_label["/w [GET]"]) == [writers[8]]
    assert "Writer" not in db.duration().data()


def test_files_with_any_prefix_can_be_loaded(directory: Path) -> None:
    _write(directory, [(EPOCH_NS, "1", "x", 7)], "queue")
    _write(directory, [(EPOCH_NS, "2", "x", 7)], "queue-2")
    assert list(TelemetryDB.from_csv_files(directory, "queue").data()["Measurement"]) == [1.0]
    assert TelemetryDB(directory).prefixes() == ["queue", "queue-2"]


def test_files_of_the_older_format_load(directory: Path) -> None:
    older = directory / "duration.1700000000.csv"
    older.write_bytes(
        b"Timepoint, Measurement, Label, PID\r\n"
        b"1700000000000000001, 0.5, /v [GET], 7\r\n"
        b'1700000000000000002, 0.25, "a, b", 7\r\n'
    )
    _write(directory, [(EPOCH_NS + 3, "1", "/v [GET]", 8)])
    frame = TelemetryDB(directory).duration()
    assert frame.labels() == ["/v [GET]", "a, b"]
    assert list(frame.time_series("/v [GET]").data()) == [0.5, 1.0]


@pytest.mark.parametrize("label", ["NA", "null", "None", "nan", "", " ", "1", "True", '"', "é"])
def test_a_label_that_looks_like_another_type_stays_a_text(directory: Path, label: str) -> None:
    quoted = '"' + label.replace('"', '""') + '"'
    _write(directory, [(EPOCH_NS, "1", quoted, 7), (EPOCH_NS, "2", "other", 7)])
    frame = TelemetryDB(directory).duration()
    assert frame.labels() == sorted([label, "other"])
    assert list(frame.time_series(label).data()) == [1.0]


@pytest.mark.parametrize("text", ["0.237000123", "1e-09", "5e-324", "1.7976931348623157e+308"])
def test_a_measurement_keeps_every_bit(directory: Path, text: str) -> None:
    _write(directory, [(EPOCH_NS, text, "x", 7)])
    assert TelemetryDB(directory).duration().data()["Measurement"].iloc[0] == float(text)


def test_infinite_and_nan_measurements_are_read(directory: Path) -> None:
    _write(directory, [(EPOCH_NS, text, "x", 7) for text in ("inf", "-inf", "nan")])
    values = list(TelemetryDB(directory).duration().data()["Measurement"])
    assert values[:2] == [float("inf"), float("-inf")]
    assert np.isnan(values[2])


def _spread(directory: Path) -> None:
    for minute in range(10):
        at = EPOCH_NS + minute * 60 * _S
        _write(directory, [(at, str(minute), "x", 7), (at + _S, str(minute), "x", 7)])


def test_a_time_span_is_half_open_and_exact(directory: Path) -> None:
    _spread(directory)
    since, until = EPOCH_NS + 120 * _S + 1, EPOCH_NS + 181 * _S
    db = TelemetryDB(directory, since=since, until=until)
    assert list(db.duration().data()["Measurement"]) == [2.0, 3.0]


@pytest.mark.parametrize(
    "moment",
    [
        EPOCH_NS + 300 * _S,
        1_700_000_300,
        1_700_000_300.0,
        np.int64(1_700_000_300),
        datetime.fromtimestamp(1_700_000_300, UTC),
        datetime.fromtimestamp(1_700_000_300, timezone(timedelta(hours=5))),
        datetime.fromtimestamp(1_700_000_300),  # noqa: DTZ006 - a local time
        pd.Timestamp(1_700_000_300, unit="s"),
        pd.Timestamp(1_700_000_300, unit="s", tz="Asia/Tokyo"),
        np.datetime64(1_700_000_300, "s"),
        "2023-11-14T22:18:20Z",
        "2023-11-14 22:18:20+00:00",
        "1700000300",
    ],
)
def test_times_of_many_types_are_accepted(directory: Path, moment: Moment) -> None:
    _spread(directory)
    db = TelemetryDB(directory, since=moment)
    assert sorted(set(db.duration().data()["Measurement"])) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    "moment", [timedelta(minutes=5), pd.Timedelta(minutes=5), np.timedelta64(5, "m"), "5min", "-5m"]
)
def test_a_timedelta_is_a_time_before_now(directory: Path, moment: Moment) -> None:
    now_ns = epoch_ns()
    _write(directory, [(now_ns - 60 * _S, "1", "x", 7), (now_ns - 3600 * _S, "2", "x", 7)])
    assert list(TelemetryDB(directory, since=moment).duration().data()["Measurement"]) == [1]
    assert list(TelemetryDB(directory, until=moment).duration().data()["Measurement"]) == [2]


@pytest.mark.parametrize("moment", ["yesteryear", 5, pd.NaT, [], np.timedelta64("NaT"), True])
@pytest.mark.parametrize("option", ["since", "until"])
def test_an_invalid_time_is_an_error_that_names_the_option(
    directory: Path, moment: Any, option: str
) -> None:
    with pytest.raises(MomentError, match=f"{option}=.*must be a time, such as 5m"):
        TelemetryDB(directory, **{option: moment})


def test_a_time_of_the_index_can_be_used_as_since(directory: Path) -> None:
    _spread(directory)
    last = TelemetryDB(directory).duration().time_series("x").data().index[-1]
    assert len(TelemetryDB(directory, since=last).duration().data()) == 1


def test_files_outside_the_time_span_are_not_opened(directory: Path) -> None:
    _spread(directory)
    for path in sorted(directory.iterdir())[:5]:
        path.write_text("rubbish")
    db = TelemetryDB(directory, since=EPOCH_NS + 300 * _S)
    assert len(db.duration().data()) == 10


def test_times_outside_the_range_of_pandas_are_no_limits(directory: Path) -> None:
    _spread(directory)
    db = TelemetryDB(directory, since=-(10**30), until=10**30)
    assert len(db.duration().data()) == 20


def test_only_the_given_labels_are_loaded(recorded: Path) -> None:
    (recorded / "duration.older.csv").write_text(
        f"Timepoint, Measurement, Label, PID\n{EPOCH_NS}, 1, /v [GET], 7\n{EPOCH_NS}, 2, old, 7\n"
    )
    db = TelemetryDB(recorded, labels=["/v [GET]", "none"])
    assert db.duration().labels() == ["/v [GET]"]
    assert list(db.duration().data()["Label"].cat.categories) == ["/v [GET]"]
    assert list(db.duration().time_series("/v [GET]").data()) == [1.0, 0.1, 0.2, 0.3]
    _write(recorded, [(EPOCH_NS + 9, "9", "/w [GET]", 9), (EPOCH_NS + 10, "10", "/v [GET]", 9)])
    db.refresh()
    assert list(db.duration().data()["Measurement"])[-1] == 10.0
    assert len(db.duration().data()) == 5
    assert TelemetryDB(recorded, labels=[]).duration().data().empty


def test_labels_and_a_time_span_limit_together(recorded: Path) -> None:
    db = TelemetryDB(recorded, since=EPOCH_NS + 2, until=EPOCH_NS + 4, labels={"/v [GET]"})
    assert list(db.duration().time_series("/v [GET]").data()) == [0.2, 0.3]


def test_only_the_damaged_file_is_left_out(recorded: Path) -> None:
    (recorded / "duration.1.csv").write_text(_HEADER + f"{EPOCH_NS},1,x,7\n{EPOCH_NS},1,y")
    (recorded / "duration.2.csv").mkdir()
    with pytest.warns(ForeignFileWarning) as caught:
        frame = TelemetryDB(recorded).duration()
    assert [str(each.message).split(": ")[0] for each in caught] == [
        str(recorded / "duration.2.csv"),
        str(recorded / "duration.1.csv"),
    ]
    assert len(frame.data()) == 4


def test_a_refresh_loads_new_files_and_reads_none_twice(recorded: Path) -> None:
    db = TelemetryDB(recorded)
    assert len(db.duration().data()) == 4
    for path in recorded.glob("duration.*"):
        path.write_text("rubbish")
    _write(recorded, [(EPOCH_NS + 9, "9", "new", 9)])
    assert len(db.duration().data()) == 4
    db.refresh()
    assert len(db.duration().data()) == 5
    assert db.duration().labels() == ["/v [GET]", "/w [GET]", "new"]


def test_a_refresh_without_new_files_changes_nothing(recorded: Path) -> None:
    db = TelemetryDB(recorded)
    before = db.duration().data()
    db.refresh()
    assert db.duration().data().equals(before)


def test_a_file_that_vanishes_while_it_is_read_is_left_out(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir(recorded)
    ghost = next(name for name in listed if name.startswith("duration."))
    monkeypatch.setattr(os, "listdir", lambda directory: listed)
    (recorded / ghost).unlink()
    assert len(TelemetryDB(recorded).duration().data()) == 2


def test_a_foreign_file_is_left_out_with_a_warning(recorded: Path) -> None:
    foreign = recorded / "duration.mine.csv"
    foreign.write_text("a,b,c\n1,2,3\n")
    with pytest.warns(ForeignFileWarning, match=r"duration\.mine\.csv: not read"):
        frame = TelemetryDB(recorded).duration()
    assert len(frame.data()) == 4


def test_files_being_written_and_hidden_ones_are_not_read(recorded: Path) -> None:
    for name in ("duration.0123456789abcdef.1.tmp", ".duration.x.csv"):
        (recorded / name).write_text(_HEADER + f"{EPOCH_NS},1,half,7")
    assert "half" not in TelemetryDB(recorded).duration().labels()


def test_a_file_without_rows_or_last_line_end_is_read(recorded: Path) -> None:
    (recorded / "duration.1.csv").write_text(_HEADER)
    (recorded / "duration.2.csv").write_text(_HEADER.strip())
    (recorded / "duration.3.csv").write_text(_HEADER + f"{EPOCH_NS},1,last,7")
    assert len(TelemetryDB(recorded).duration().data()) == 5


def test_an_empty_directory_gives_empty_series(directory: Path) -> None:
    db = TelemetryDB(directory)
    assert db.duration().data().empty
    assert db.duration().labels() == []
    assert db.max_rss().data().empty
    assert db.prefixes() == []


def test_a_missing_directory_and_a_file_are_errors(directory: Path) -> None:
    with pytest.raises(MonitoringDirectoryError, match="must exist; nothing was recorded there"):
        TelemetryDB(directory / "none")
    (directory / "file").touch()
    with pytest.raises(MonitoringDirectoryError, match="must be a directory, not a file"):
        TelemetryDB(directory / "file")


def test_thousands_of_files_in_many_groups_are_one_frame(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqltelemetry.reading.file_groups._FIRST_BYTES", 1_000)
    monkeypatch.setattr("aqltelemetry.reading.file_groups._GROUP_BYTES", 10_000)
    for number in range(500):
        _write(directory, [(EPOCH_NS + number, str(number), f"label {number % 70}", number % 3)])
    frame = TelemetryDB(directory).duration()
    assert sorted(frame.data()["Measurement"]) == list(range(500))
    assert len(frame.labels()) == 70
    assert frame.data()["Label"].dtype == "category"
    assert list(frame.time_series("label 3").data())[:3] == [3.0, 73.0, 143.0]


def _compress(path: Path, suffix: str) -> Path:
    """Replace a file by its compressed form, as gzip and zstd do."""
    text = path.read_bytes()
    compressed = path.with_name(path.name + suffix)
    compressed.write_bytes(gzip.compress(text) if suffix == ".gz" else zstandard.compress(text))
    path.unlink()
    return compressed


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_give_the_same_rows(recorded: Path, suffix: str) -> None:
    before = TelemetryDB(recorded).duration().data_by_process()
    for path in sorted(recorded.glob("*.csv"))[::2]:
        _compress(path, suffix)
    after = TelemetryDB(recorded)
    pd.testing.assert_frame_equal(_sorted(after.duration().data_by_process()), _sorted(before))
    assert after.prefixes() == ["duration", "runtime"]
    assert after.not_read() == []
    assert len(TelemetryDB(recorded, labels=["/w [GET]"]).duration().data()) == 1


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["Timepoint", "PID"], ignore_index=True)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_outside_the_time_span_are_not_opened(
    directory: Path, suffix: str
) -> None:
    _spread(directory)
    for number, path in enumerate(sorted(directory.iterdir())):
        compressed = _compress(path, suffix)
        if number < 5:
            compressed.write_text("rubbish")
    db = TelemetryDB(directory, since=EPOCH_NS + 300 * _S)
    assert len(db.duration().data()) == 10


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_was_compressed_since_is_not_read_again(recorded: Path, suffix: str) -> None:
    db = TelemetryDB(recorded)
    before = db.duration().data()
    for path in recorded.glob("*.csv"):
        _compress(path, suffix)
    _write(recorded, [(EPOCH_NS + 9, "9", "new", 9)])
    db.refresh()
    assert len(db.duration().data()) == len(before) + 1


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_compressed_file_is_left_out_and_reported_once(
    recorded: Path, suffix: str
) -> None:
    whole, cut = (_compress(path, suffix) for path in sorted(recorded.glob("duration.*")))
    text = cut.read_bytes()
    cut.write_bytes(text[:-5])
    db = TelemetryDB(recorded)
    with pytest.warns(ForeignFileWarning, match="truncated") as caught:
        assert len(db.duration().data()) == 2
    assert [each.name for each in db.not_read()] == [cut.name]
    db.refresh()
    assert len(caught) == 1
    cut.write_bytes(text)  # it is complete now
    db.refresh()
    assert len(db.duration().data()) == 4
    assert whole.exists()


def test_a_file_that_is_being_compressed_is_read_once(
    recorded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = next(recorded.glob("duration.*"))
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:20])
    os.utime(path, (1, 1))
    db = TelemetryDB(recorded)
    assert len(db.duration().data()) == 4
    db.refresh()
    assert len(caplog.records) == 1
    assert "it is a copy of duration." in caplog.text


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_is_compressed_during_reading_is_read(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    listed = os.listdir(recorded)
    for path in recorded.glob("*.csv"):
        _compress(path, suffix)
    monkeypatch.setattr(os, "listdir", lambda directory: listed)
    assert len(TelemetryDB(recorded).duration().data()) == 4


@pytest.mark.parametrize("copy", ["{stem} (copy).csv", "backup-{stem}.csv", "Copy of {stem}.csv"])
def test_a_copy_is_not_counted_twice(
    recorded: Path, caplog: pytest.LogCaptureFixture, copy: str
) -> None:
    for path in list(recorded.iterdir()):
        path.with_name(copy.format(stem=path.stem)).write_bytes(path.read_bytes())
    db = TelemetryDB(recorded)
    assert len(db.duration().data()) == 4
    assert db.prefixes() == ["duration", "runtime"]
    assert "3 files left out, such as" in caplog.text
    assert len(caplog.records) == 1


def test_a_file_that_is_not_read_is_logged_once(
    recorded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = next(recorded.glob("duration.*"))
    path.rename(path.with_name(path.name + ".bz2"))
    db = TelemetryDB(recorded)
    assert len(db.duration().data()) == 2
    db.runtime()
    db.refresh()
    (record,) = caplog.records
    assert ".csv.bz2: its name must end with .csv, .csv.gz or .csv.zst" in record.getMessage()
    assert [each.is_lost for each in db.not_read()] == [True]


def _two_processes(directory: Path) -> None:
    for pid in (7, 8):
        name = FileName("duration", *enclosing(EPOCH_NS, EPOCH_NS), pid, f"{pid:016x}", 1, 1, 0)
        row = f"{EPOCH_NS},0.5,/a [GET],{pid}\n"
        (directory / str(name)).write_text(f"Timepoint,Measurement,Label,PID\n{row}")


def test_only_the_observations_of_some_processes_are_loaded(tmp_path: Path) -> None:
    _two_processes(tmp_path)
    db = TelemetryDB(tmp_path, pids=8)
    assert db.duration().pids() == [8]
    assert [pid for pid, _ in db.writers().index] == [8]
    assert [pid for pid, _ in db.workers().index] == [8]
    assert TelemetryDB(tmp_path, pids=[7, 8]).duration().pids() == [7, 8]
    assert TelemetryDB(tmp_path, pids=[]).duration().pids() == []


def test_pids_that_are_no_integers_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="must be the PID of a process, or several"):
        TelemetryDB(tmp_path, pids="7")  # type: ignore[arg-type]


def test_progress_is_reported_in_files(tmp_path: Path) -> None:
    _two_processes(tmp_path)
    calls: list[tuple[int, int]] = []
    TelemetryDB(tmp_path, progress=lambda *call: calls.append(call)).duration()
    assert calls[-1] == (2, 2)
