"""The time recorded is the time in which at least one process recorded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.reading.summaries.recorded_time import MIN_RECORDED_S
from aqltelemetry.sinks.file_names import FileName, enclosing
from fakes import EPOCH_NS

_S = 1_000_000_000


def _write(
    directory: Path, prefix: str, rows: list[tuple[float, float, str]], pid: int = 7
) -> None:
    times = [EPOCH_NS + int(at_s * _S) for at_s, *_ in rows]
    span = enclosing(min(times), max(times))
    name = FileName(prefix, *span, pid, f"{pid:016x}", 1, 1, 0)
    lines = [
        f"{at},{value!r},{label},{pid}\n" for at, (_, value, label) in zip(times, rows, strict=True)
    ]
    (directory / str(name)).write_text("Timepoint,Measurement,Label,PID\n" + "".join(lines))


def _sample(directory: Path, first_s: float, last_s: float, step_s: float, pid: int = 7) -> None:
    count = round((last_s - first_s) / step_s) + 1
    rows = [(first_s + number * step_s, 1.0, "gc collections") for number in range(count)]
    _write(directory, "runtime", rows, pid)


def _recorded_s(directory: Path, since_s: float | None = None) -> float:
    since = None if since_s is None else EPOCH_NS + int(since_s * _S)
    return TelemetryDB(directory, since=since).recorded_s()


def test_a_process_records_from_its_start_to_its_last_sample(tmp_path: Path) -> None:
    _sample(tmp_path, 1, 6, 1)
    _write(tmp_path, "duration", [(2, 0.00001, "x"), (2.1, 0.00001, "x"), (2.2, 0.00001, "x")])
    assert _recorded_s(tmp_path) == pytest.approx(6)


def test_idle_time_counts_too(tmp_path: Path) -> None:
    _sample(tmp_path, 1, 600, 1)
    _write(tmp_path, "duration", [(300 + number / 10, 0.01, "x") for number in range(4)])
    assert 4 / _recorded_s(tmp_path) == pytest.approx(0.0067, abs=0.00005)


def test_an_extra_last_sample_changes_no_interval(tmp_path: Path) -> None:
    """The monitor takes it when it stops."""
    samples = [(at_s, 1.0, "user time") for at_s in (10.0, 20.0, 30.0, 30.5)]
    _write(tmp_path, "runtime", samples)
    assert _recorded_s(tmp_path) == pytest.approx(30.5)


def test_single_events_do_not_count_as_samples(tmp_path: Path) -> None:
    events = [(at_s, 0.001, "gc pause") for at_s in (1.0, 101.0, 201.0)]
    _write(tmp_path, "runtime", [*events, *((at, 1.0, "user time") for at in (200.0, 201.0))])
    assert _recorded_s(tmp_path) == pytest.approx(200)


def test_a_duration_can_start_before_the_first_sample(tmp_path: Path) -> None:
    _sample(tmp_path, 5, 9, 1)
    _write(tmp_path, "duration", [(10, 8.0, "x")])
    assert _recorded_s(tmp_path) == pytest.approx(8)


def test_processes_at_the_same_time_count_once(tmp_path: Path) -> None:
    for pid in (7, 8, 9):
        _sample(tmp_path, 1, 10, 1, pid)
    assert _recorded_s(tmp_path) == pytest.approx(10)


def test_time_without_any_process_does_not_count(tmp_path: Path) -> None:
    _sample(tmp_path, 1, 10, 1, 7)
    _sample(tmp_path, 1001, 1020, 1, 8)
    _sample(tmp_path, 1016, 1030, 1, 9)
    assert _recorded_s(tmp_path) == pytest.approx(10 + 30)


def test_a_process_within_the_time_of_another_adds_no_time(tmp_path: Path) -> None:
    _sample(tmp_path, 1, 100, 1, 7)
    _sample(tmp_path, 11, 20, 1, 8)
    _sample(tmp_path, 51, 110, 1, 9)
    assert _recorded_s(tmp_path) == pytest.approx(110)


def test_durations_alone_count_where_nothing_was_sampled(tmp_path: Path) -> None:
    _write(tmp_path, "duration", [(3, 1.0, "x"), (5, 0.5, "x"), (4, math.nan, "x")])
    assert _recorded_s(tmp_path) == pytest.approx(3)


@pytest.mark.parametrize("length_s", [0.0, 50e-6, math.inf, -1.0])
def test_the_time_recorded_is_at_least_a_second(tmp_path: Path, length_s: float) -> None:
    _write(tmp_path, "duration", [(3, length_s, "x")])
    assert _recorded_s(tmp_path) == MIN_RECORDED_S == 1


def test_time_before_since_does_not_count(tmp_path: Path) -> None:
    _sample(tmp_path, 1, 100, 1)
    _write(tmp_path, "duration", [(60, 59.0, "a long one")])
    assert _recorded_s(tmp_path, since_s=50) == pytest.approx(50)


def test_the_time_recorded_is_nan_without_observations(tmp_path: Path) -> None:
    assert math.isnan(_recorded_s(tmp_path))
