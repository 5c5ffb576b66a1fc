from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.observation import RUNTIME
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.batch import Batch
from aqltelemetry.views.live.buckets import MAX_ERROR
from aqltelemetry.views.live.latest import Requests
from aqltelemetry.views.live.player import Player
from aqltelemetry.views.live.sources import Past
from aqltelemetry.views.live.window import LiveWindow, Snapshot
from fakes import EPOCH_NS, FakeClock
from planted import steady
from recordings import Recording, Route

_T = EPOCH_NS // NS_PER_S


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Path]:
    recording = Recording(200.0, seed=3)
    for _ in range(3):
        worker = recording.add_worker()
        worker.serve(Route("/a [GET]", per_s=30, outcomes={"5xx": 0.05, "4xx": 0.1}, block="db"))
        worker.serve(Route("/b [POST]", per_s=5, median_s=0.2, tail=0.01))
        worker.sample("cpu percent", lambda at: 20 + at)
        worker.sample("rss", lambda at: 1e6 * (1 + at))
        worker.sample("gc collections", lambda at: at)
        worker.observe(RUNTIME, "gc pause", [20.0, 100.5, 101.5], [0.1, 0.02, 0.03])
        worker.observe(RUNTIME, "event loop lag", [100.0, 110.0], [0.25, 0.75])
    return recording, recording.write(tmp_path_factory.mktemp("recorded"))


def _at(path: Path, at_s: float, window_s: int | None, steps: int = 1) -> Snapshot:
    """Return the figures at a time of the recording, which was read in some steps."""
    db = TelemetryDB(path)
    window, past = LiveWindow(EPOCH_NS), Past(db)
    for step in range(1, steps + 1):
        now_ns = EPOCH_NS + round(at_s * NS_PER_S * step / steps)
        window.move_to(now_ns)
        for prefix, batch in past.read(now_ns):
            window.add(prefix, batch)
        snapshot = window.snapshot(window_s, past.states(window.workers, now_ns))
    return snapshot


@pytest.mark.parametrize(("steps", "window_s"), [(1, 60), (150, 10), (40, 60), (7, 120)])
def test_the_figures_of_routes_are_those_of_the_summary(
    recorded: tuple[Recording, Path], window_s: int, steps: int
) -> None:
    path = recorded[1]
    snapshot = _at(path, 150.0, window_s, steps)
    end_ns = EPOCH_NS // NS_PER_S * NS_PER_S + 150 * NS_PER_S
    db = TelemetryDB(path, since=end_ns - window_s * NS_PER_S, until=end_ns)
    exact = db.summary()
    assert {row["label"] for row in snapshot.routes} == set(exact.index)
    for row in snapshot.routes:
        expected = exact.loc[row["label"]]
        for name in ("count", "errors_4xx", "errors_5xx", "disconnects", "failures"):
            assert row[name] == expected[name]
        assert row["max_s"] == expected["max_s"]
        assert row["sum_s"] == pytest.approx(expected["sum_s"])
        assert row["per_s"] == pytest.approx(expected["count"] / window_s)
        for name in ("p50_s", "p99_s"):
            assert row[name] == pytest.approx(expected[name], rel=MAX_ERROR)


def test_the_figures_of_workers_are_those_of_the_database(
    recorded: tuple[Recording, Path],
) -> None:
    path = recorded[1]
    snapshot = _at(path, 150.0, 60, 50)
    end_ns = EPOCH_NS // NS_PER_S * NS_PER_S + 150 * NS_PER_S
    exact = TelemetryDB(path, since=end_ns - 60 * NS_PER_S, until=end_ns).workers()
    assert len(snapshot.workers) == 3
    for row in snapshot.workers:
        expected = exact.loc[(row["pid"], row["writer"])]
        for name in ("count", "errors_5xx", "lag_max_s", "gc_pauses", "gc_pause_max_s"):
            assert row[name] == expected[name], name
        assert row["p99_s"] == pytest.approx(expected["p99_s"], rel=MAX_ERROR)
        assert row["cpu_percent"] == pytest.approx(20 + 120.5, abs=1.5)
        assert row["gc_share"] == pytest.approx(0.05 / 60)
        assert row["state"] == "running"


def test_the_slowest_durations_are_those_of_the_database(
    recorded: tuple[Recording, Path],
) -> None:
    snapshot = _at(recorded[1], 199.0, None, 20)
    end_ns = EPOCH_NS + 199 * NS_PER_S
    exact = TelemetryDB(recorded[1], until=end_ns).slowest(10)
    found = [(row["duration_s"], row["label"], row["pid"]) for row in snapshot.slowest[:10]]
    assert found == [*zip(exact["duration_s"], exact["label"], exact["pid"], strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_the_whole_recording_is_in_the_window_all(tmp_path: Path, seed: int) -> None:
    recording = steady(seed)
    db = TelemetryDB(recording.write(tmp_path))
    snapshot = _at(tmp_path, recording.seconds + 60, None, 7)
    exact = db.summary()
    assert {row["label"]: row["count"] for row in snapshot.routes} == exact["count"].to_dict()
    for row in snapshot.routes:
        assert row["p99_s"] == pytest.approx(exact.loc[row["label"], "p99_s"], rel=MAX_ERROR)
        assert sum(row["trend"]) == row["count"]


def test_a_killed_worker_is_shown_as_killed_and_then_no_more(tmp_path: Path) -> None:
    recording = Recording(100.0)
    for _ in range(2):
        recording.add_worker().serve(Route("/a [GET]"))
    recording.workers[0].die(40.0)
    recording.write(tmp_path)

    def states(at_s: float) -> list[str]:
        return [row["state"] for row in _at(tmp_path, at_s, 10).workers]

    assert sorted(states(30)) == ["running", "running"]
    assert sorted(states(45)) == ["killed", "running"]
    assert states(60) == ["running"]


def test_rates_are_over_the_time_that_was_recorded(tmp_path: Path) -> None:
    recording = Recording(6.0)
    worker = recording.add_worker(2.0)
    worker.observe("duration", "block", np.arange(2.5, 6.0, 0.5), np.full(7, 0.5))
    recording.write(tmp_path)
    snapshot = _at(tmp_path, 6.0, 60)
    (row,) = snapshot.routes
    assert row["count"] == 7
    assert row["per_s"] == pytest.approx(7 / 3.5, rel=0.15)
    assert snapshot.workers[0]["busy"] == pytest.approx(1.0)


def _batch(*times_s: float, value: float = 0.5, label: str = "/a [GET]") -> Batch:
    times_ns = np.array([round((_T + each) * NS_PER_S) for each in times_s], np.int64)
    zeros = np.zeros(len(times_ns), np.int64)
    return Batch(times_ns, np.full(len(times_ns), value), zeros, [label], zeros, [(7, "0" * 16)])


def _window(at_s: float, *batches: Batch, prefix: str = "duration") -> LiveWindow:
    window = LiveWindow(_T * NS_PER_S)
    for batch in batches:
        window.add(prefix, batch)
    window.move_to(round((_T + at_s) * NS_PER_S))
    return window


def _count(window: LiveWindow, window_s: int | None) -> int:
    return sum(row["count"] for row in window.snapshot(window_s, {}).routes)


def test_what_arrives_late_counts_in_its_second() -> None:
    window = _window(60.5, _batch(1.5, 59.5))
    window.add("duration", _batch(40.5, 55.5))
    assert [_count(window, each) for each in (10, 60, None)] == [2, 4, 4]


def test_what_another_clock_dates_ahead_counts_when_its_time_has_come() -> None:
    window = _window(0.0, _batch(0.5, 30.5))
    window.move_to(round((_T + 2) * NS_PER_S))
    assert _count(window, 60) == 1
    window.move_to(round((_T + 31) * NS_PER_S))
    assert _count(window, 60) == 2


def test_a_window_that_was_not_drawn_for_long_is_right() -> None:
    window = _window(2.5, _batch(0.5, 1.5))
    assert _count(window, 300) == 2
    window.move_to((_T + 10_000) * NS_PER_S)
    window.add("duration", _batch(9999.5, 9700.2))
    assert [_count(window, each) for each in (10, 300, None)] == [1, 2, 4]


def test_seconds_that_are_forgotten_while_they_are_shown_do_not_count() -> None:
    window = _window(300.0, _batch(0.5, value=0.001))
    assert _count(window, 300) == 1
    window.move_to((_T + 310) * NS_PER_S)
    window.add("duration", _batch(309.5, value=0.5))
    (row,) = window.snapshot(300, {}).routes
    assert row["p50_s"] == pytest.approx(0.5, rel=MAX_ERROR)


def test_durations_that_are_no_numbers_are_left_out() -> None:
    assert _count(_window(2, _batch(0.5, value=float("nan")), _batch(0.6)), 60) == 1


def _sampled(label: str, *samples: tuple[float, float]) -> Batch:
    batch = _batch(*(at_s for at_s, _ in samples), label=label)
    return batch._replace(values=np.array([value for _, value in samples]))


@pytest.mark.parametrize("cut", [0, 2, 3, 5])
def test_the_requests_in_flight_are_that_many_since_the_first_equal_sample(cut: int) -> None:
    samples = [(1.0, 2.0), (2.0, 5.0), (3.0, 3.0), (4.0, 3.0), (5.0, 3.0)]
    parts = [part for part in (samples[:cut], samples[cut:]) if part]
    batches = [_sampled("requests in flight", *part) for part in parts]
    (row,) = _window(9.0, *batches, prefix=RUNTIME).snapshot(60, {(7, "0" * 16): "running"}).workers
    assert (row["in_flight"], row["in_flight_s"]) == (3.0, pytest.approx(6.0))


@pytest.mark.parametrize(
    ("requests", "shown"),
    [
        (Requests(2, (_T + 4) * NS_PER_S), (2.0, 5.0)),
        (Requests(0, None), (0.0, None)),
    ],
)
def test_the_requests_of_a_running_worker_are_those_in_its_journal_though_it_is_stuck(
    requests: Requests, shown: tuple[float, float | None]
) -> None:
    window = _window(9.0, _sampled("requests in flight", (3.0, 1.0)), prefix=RUNTIME)
    worker = (7, "0" * 16)
    for state, wanted in (("running", shown), ("killed", (None, None))):
        (row,) = window.snapshot(60, {worker: state}, {worker[1]: requests}).workers
        assert (row["in_flight"], row["in_flight_s"]) == wanted


def test_a_replay_goes_back_and_ahead(recorded: tuple[Recording, Path]) -> None:
    clock = FakeClock(5 * NS_PER_S)
    begin_ns = EPOCH_NS + 100 * NS_PER_S
    player = Player(Past(TelemetryDB(recorded[1])), clock, begin_ns=begin_ns, speed=10.0)

    def rows() -> list[Any]:
        return player.snapshot(10, bins=10).routes

    first = rows()
    clock.now_ns += 5 * NS_PER_S
    player.step()
    assert player.progress.now_ns == begin_ns + 50 * NS_PER_S
    assert rows() != first
    player.seek(-50)
    assert rows() == first
    player.pause(is_paused=True)
    clock.now_ns += 5 * NS_PER_S
    player.step()
    assert rows() == first
    player.pause(is_paused=False)
    player.step()
    assert rows() == first
    player.seek(1000)
    assert player.progress.mode == "ended"
    player.seek(-10_000)
    assert player.progress.mode == "replay"
