from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.errors import MonitoringDirectoryError
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.serve.queries import Window
from aqltelemetry.views.serve.recording import Recording
from aqltelemetry.views.strips import strips
from fakes import FakeClock

_HEADER = "Timepoint,Measurement,Label,PID\n"
_SECOND = 10**9
_OPTIONS = Options(slowest=50)
_WHOLE = Window(None, None, 10)


def write(directory: Path, number: int, durations: int = 3) -> None:
    """Publish a file of durations."""
    begin = 1_795_000_000 * _SECOND + number * 60 * _SECOND
    rows = "".join(f"{begin + i * _SECOND},0.{i + 1},/a [GET],7\n" for i in range(durations))
    name = f"duration.20261118T1200{number:02}000000-20261118T1200{number:02}000001.7-"
    (directory / f"{name}4bed60732eba01bd.{number:06}-{number:06}-0.csv").write_text(_HEADER + rows)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write(tmp_path, 1)
    return tmp_path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recording(published: Path, clock: FakeClock) -> Iterator[Recording]:
    recording = Recording(lambda: TelemetryDB(published), 1.0, clock_ns=clock)
    yield recording
    recording.close()


def _loaded(made: Future[bytes]) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(made.result(60))
    return loaded


def test_the_report_is_the_document_of_the_recording(recording: Recording, published: Path) -> None:
    assert _loaded(recording.report(0)) == document(TelemetryDB(published), _OPTIONS)


def test_strips_are_those_of_the_window(recording: Recording, published: Path) -> None:
    begin_ns = (1_795_000_060 + 1) * _SECOND
    window = Window(begin_ns, begin_ns + _SECOND, 5)
    assert _loaded(recording.strips(window)) == strips(TelemetryDB(published), *window).as_dict()


def test_what_was_computed_is_kept_until_something_is_new(
    recording: Recording, published: Path, clock: FakeClock
) -> None:
    report, drawn = recording.report(0).result(60), recording.strips(_WHOLE).result(60)
    clock.now_ns += 10 * _SECOND
    assert recording.report(0).result(60) is report
    assert recording.strips(_WHOLE).result(60) is drawn
    write(published, 2)
    assert recording.report(0).result(60) is report  # read less than a second ago
    clock.now_ns += 2 * _SECOND
    assert _loaded(recording.report(0)) == document(TelemetryDB(published), _OPTIONS)
    assert recording.strips(_WHOLE).result(60) != drawn


def test_the_numbers_of_the_state_grow_with_each_change(
    recording: Recording, published: Path, clock: FakeClock
) -> None:
    assert recording.state().result(60) == (3, 1, 0)
    recording.report(0).result(60)
    assert recording.state().result(60) == (3, 1, 1)
    assert recording.state().result(60).number == 2
    clock.now_ns += 2 * _SECOND
    assert recording.state().result(60) == (3, 1, 1)
    write(published, 2, durations=5)
    assert recording.state().result(60) == (3, 1, 1)
    clock.now_ns += 2 * _SECOND
    assert recording.state().result(60)[:2] == (8, 2)


def test_a_report_that_somebody_has_is_replaced_when_something_is_new(
    recording: Recording, published: Path, clock: FakeClock
) -> None:
    recording.report(0).result(60)
    write(published, 2)
    clock.now_ns += 2 * _SECOND
    recording.state().result(60)
    recording._reports._thread.submit(lambda: None).result(60)  # after what state has asked for
    assert recording.state().result(60) == (6, 2, 2)


def test_a_report_that_took_long_is_kept_while_the_strips_go_on(
    recording: Recording, published: Path, clock: FakeClock
) -> None:
    report, drawn = recording.report(0).result(60), recording.strips(_WHOLE).result(60)
    recording._reports._figures._busy_ns = _SECOND
    for number, age_s in ((2, 2), (3, 31)):
        write(published, number)
        clock.now_ns += age_s * _SECOND
        assert recording.report(0).result(60) is report
        assert recording.strips(_WHOLE).result(60) is not drawn
    clock.now_ns += 2 * _SECOND
    assert _loaded(recording.report(0)) == document(TelemetryDB(published), _OPTIONS)


def test_findings_are_made_less_often_than_figures(
    recording: Recording, published: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[TelemetryDB] = []

    def find(db: TelemetryDB) -> tuple[()]:
        calls.append(db)
        return ()

    monkeypatch.setattr("aqltelemetry.views.serve.reports.find", find)
    for number, age_s, expected in ((1, 0, 1), (2, 2, 1), (3, 4, 2)):
        write(published, number, durations=number)
        clock.now_ns += age_s * _SECOND
        recording.report(0).result(60)
        assert len(calls) == expected


def test_a_zoom_is_answered_while_a_report_is_made(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ends = threading.Event(), threading.Event()

    def find(_db: TelemetryDB) -> tuple[()]:
        begun.set()
        ends.wait(60)
        return ()

    monkeypatch.setattr("aqltelemetry.views.serve.reports.find", find)
    report = recording.report(0)
    assert begun.wait(60)
    assert _loaded(recording.strips(_WHOLE))["routes"]
    assert not report.done()
    ends.set()
    assert _loaded(report)["durations"]


@pytest.mark.parametrize(
    ("share", "busy_s", "pause_s"), [(0.05, 0.01, 1.0), (0.05, 0.06, 1.2), (0.05, 9.0, 1.5)]
)
def test_what_takes_long_is_followed_by_a_longer_pause_within_limits(
    published: Path, clock: FakeClock, share: float, busy_s: float, pause_s: float
) -> None:
    loads: list[int] = []

    def load() -> TelemetryDB:
        clock.now_ns += int(busy_s / 2 * _SECOND)
        db = TelemetryDB(published)
        db.refresh = lambda: loads.append(clock.now_ns)  # type: ignore[method-assign]
        return db

    recording = Recording(load, 1.0, share, clock)
    began_ns = clock.now_ns
    assert recording.state().result(60) == (3, 1, 0)
    recording._pace._busy_ns += int(busy_s / 2 * _SECOND)  # what was made of it took this long
    for age_s, expected in ((pause_s, 0), (pause_s + 0.01, 1)):
        clock.now_ns = began_ns + int(age_s * _SECOND)
        recording.state().result(60)
        assert len(loads) == expected
    recording.close()


def test_only_some_windows_are_kept(recording: Recording) -> None:
    first = recording.strips(_WHOLE).result(60)
    for bins in range(20, 40):
        recording.strips(Window(None, None, bins))
    assert recording.strips(_WHOLE).result(60) is not first


def test_an_empty_recording_has_a_report_too(tmp_path: Path) -> None:
    recording = Recording(lambda: TelemetryDB(tmp_path))
    assert recording.state().result(60)[0] == 0
    assert _loaded(recording.report(0))["durations"] == []
    assert _loaded(recording.strips(_WHOLE))["routes"] == []
    recording.close()


def test_what_is_wrong_with_the_directory_is_raised_to_the_caller(tmp_path: Path) -> None:
    recording = Recording(lambda: TelemetryDB(tmp_path / "none"))
    with pytest.raises(MonitoringDirectoryError):
        recording.report(0).result(60)
    (tmp_path / "none").mkdir()
    assert recording.state().result(60)[0] == 0
    recording.close()


def test_work_is_done_on_one_thread_and_left_out_if_cancelled(published: Path) -> None:
    threads: set[int] = set()
    release = threading.Event()

    def load() -> TelemetryDB:
        threads.add(threading.get_ident())
        release.wait(60)
        return TelemetryDB(published)

    recording = Recording(load)
    first, second = recording.report(0), recording.report(0)
    assert second.cancel()
    release.set()
    assert first.result(60)
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    recording.close()
