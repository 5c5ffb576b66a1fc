from __future__ import annotations

from datetime import UTC
from pathlib import Path

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.observation import DURATION, RUNTIME
from aqltelemetry.views.findings.find import find
from aqltelemetry.views.findings.finding import Finding, Severity
from recordings import Recording, Worker

_SECONDS = np.arange(1.0, 60.0)


@pytest.fixture
def recording() -> Recording:
    recording = Recording(60)
    for worker in (recording.add_worker(), recording.add_worker()):
        worker.observe(RUNTIME, "user time", _SECONDS, _SECONDS)
    return recording


def _found(recording: Recording, directory: Path, **options: object) -> list[Finding]:
    db = TelemetryDB(recording.write(directory), **options)  # type: ignore[arg-type]
    return find(db, zone=UTC)


def _texts(recording: Recording, directory: Path) -> list[str]:
    return [finding.text for finding in _found(recording, directory)]


def test_a_killed_worker_is_found_with_its_last_sample(
    tmp_path: Path, recording: Recording
) -> None:
    worker = recording.workers[1]
    worker.observe(RUNTIME, "requests in flight", [10, 20], [1, 2])
    worker.observe(RUNTIME, "rss", [10, 20], [100 << 20, 912 << 20])
    worker.die(30)
    (found,) = _found(recording, tmp_path)
    assert found.text == (
        "Worker 4001 ended at 22:13:50 without stopping its recording, as if killed; its last "
        "sample: 2 requests in progress and 912 MiB of memory."
    )
    assert (found.rule, found.severity, found.pid) == ("killed", Severity.ERROR, 4001)
    assert found.figures["in_flight"] == 2
    assert abs(found.begin_ns - recording.ns(30)) < 1e9


def test_a_running_and_a_stopped_worker_are_not_killed(
    tmp_path: Path, recording: Recording
) -> None:
    recording.workers[0].state = "running"
    assert _texts(recording, tmp_path) == []


def test_a_kill_after_the_loaded_time_is_not_found(tmp_path: Path, recording: Recording) -> None:
    recording.workers[0].die(59)
    assert _found(recording, tmp_path, until=recording.ns(20)) == []


def test_drops_are_added_up_by_reason(tmp_path: Path, recording: Recording) -> None:
    for worker in recording.workers:
        worker.drops["no segment"] = (3, 20.0)
    recording.workers[0].observe(RUNTIME, "telemetry dropped no segment", [30, 40], [3, 5])
    recording.workers[0].drops["invalid"] = (1, 21.0)
    found = _found(recording, tmp_path)
    assert [each.text for each in found] == [
        "8 observations of 2 workers were dropped: no segment.",
        "1 observation of worker 4000 was dropped: invalid.",
    ]
    assert found[0].figures["count"] == 8
    assert (found[0].begin_ns, found[0].end_ns) == (recording.ns(20), recording.ns(40))


def test_the_notes_of_all_workers_on_a_step_are_one(tmp_path: Path, recording: Recording) -> None:
    for worker in recording.workers:  # a step back is followed second by second
        worker.observe(RUNTIME, "telemetry clock step", [10, 11, 12, 13], [-2, -1.5, -1, -0.5])
        worker.observe(RUNTIME, "telemetry clock step", [40], [0.25])
    assert _texts(recording, tmp_path) == [
        "The clock was set back by 2 s at 22:13:30.",
        "The clock was set forward by 250 ms at 22:14:00, or the machine was suspended.",
    ]


def test_a_recording_switched_off_is_found_until_it_is_on_or_ends(
    tmp_path: Path, recording: Recording
) -> None:
    one, other = recording.workers
    for worker in (one, other):
        worker.observe(RUNTIME, "telemetry switched on", [10, 20], [0, 1])
    other.observe(RUNTIME, "telemetry switched on", [40], [0])
    assert _texts(recording, tmp_path) == [
        "Recording of worker 4001 was switched off from 22:14:00 on, until its end.",
        "Recording of 2 workers was switched off from 22:13:30 to 22:13:40 (10 s).",
    ]


def test_a_journal_in_memory_is_found(tmp_path: Path, recording: Recording) -> None:
    recording.workers[0].observe(RUNTIME, "telemetry crash proof", [1, 2], [0, 0])
    recording.workers[1].observe(RUNTIME, "telemetry crash proof", [1, 2], [1, 1])
    (text,) = _texts(recording, tmp_path)
    assert text.startswith("The journal of worker 4000 is in memory only")


def _work(worker: Worker, label: str, seconds: float, count: int = 600) -> None:
    ends = np.linspace(0.5, 59.5, count)
    worker.observe(DURATION, label, ends, np.full(count, seconds))


def test_the_lives_of_connections_are_not_compared(tmp_path: Path, recording: Recording) -> None:
    one, other = recording.workers
    for label in ("/ws [GET] websocket", "/events [GET] events"):
        _work(one, label, 0.01)
        _work(other, label, 10)
    assert _texts(recording, tmp_path) == []
    _work(one, "/x [GET]", 0.01)
    _work(other, "/x [GET]", 10)
    (text,) = _texts(recording, tmp_path / "requests")
    assert text.startswith("Worker 4001 is slower than its sibling")


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path, recording: Recording) -> None:
    worker = recording.workers[0]
    _work(worker, "x", 0.01)
    values = np.tile([np.nan, np.inf, -np.inf, 1e300], 14)
    for label in ("rss", "requests in flight", "event loop lag", "gc pause", "cpu percent"):
        worker.observe(RUNTIME, label, np.linspace(1, 59, 56), values)
    assert _texts(recording, tmp_path) == []
