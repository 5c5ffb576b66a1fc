"""The synthetic recordings of tests are like real ones, and the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.audit.verify import verify
from planted import KINDS, planted, steady
from recordings import Recording, Route


def _texts(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("seed", [0, 3])
def test_a_steady_recording_is_explained_by_its_accounts(tmp_path: Path, seed: int) -> None:
    recording = steady(seed)
    verdicts = verify(recording.write(tmp_path), [])
    assert len(verdicts) == len(recording.workers)
    assert all(verdict.is_accounted_for for verdict in verdicts)
    assert sum(verdict.accepted for verdict in verdicts) > 1000


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    assert _texts(steady(7).write(tmp_path / "a")) == _texts(steady(7).write(tmp_path / "b"))
    assert _texts(steady(8).write(tmp_path / "c")).keys().isdisjoint(_texts(tmp_path / "a"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_recording_says_where_its_fault_is(tmp_path: Path, kind: str) -> None:
    recording = planted(kind, 0)
    fault = recording.fault
    assert fault is not None
    assert 0 <= fault.begin_s <= fault.end_s <= recording.seconds
    db = TelemetryDB(recording.write(tmp_path))
    assert fault.pid is None or fault.pid in db.runtime().pids()
    assert fault.label is None or fault.label in db.duration().labels()


def test_a_held_event_loop_delays_requests_and_ticks() -> None:
    worker = Recording(10).add_worker()
    requests = worker.serve(Route("/x [GET]", per_s=100, median_s=0.01, sigma=0.1))
    due_s = np.arange(0.1, 10, 0.1)
    worker.samples["event loop lag"] = due_s, np.zeros(len(due_s))
    worker.hold(2.05, 0.5, "render")
    held = (requests.begin_s < 2.55) & (requests.end_s > 2.05)
    assert held.sum() > 30
    assert (requests.end_s[held] >= 2.55 - 1e-9).all()
    times, late = worker.samples["event loop lag"]
    assert late.max() == pytest.approx(0.45)
    assert len(times) == len(due_s) - 4
    assert worker.columns()["duration", "render"][1].tolist() == [0.5]
