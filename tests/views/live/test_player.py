from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.player import Player
from aqltelemetry.views.live.sources import Past, Running
from fakes import EPOCH_NS, FakeClock
from recordings import Recording, Route


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    recording = Recording(20.0)
    for _ in range(30):
        recording.add_worker().serve(Route("/a [GET]", per_s=2))
    recording.workers[0].die(10.0)
    return recording.write(tmp_path / "recorded")


def _live(path: Path, after_s: float) -> Player:
    now_ns = EPOCH_NS + round(after_s * NS_PER_S)
    return Player(Running([str(path)], now_ns), FakeClock(now_ns))


def _count(player: Player, window_s: int | None) -> int:
    return sum(row["count"] for row in player.snapshot(window_s).routes)


def test_what_ended_minutes_ago_is_read_at_the_start(recorded: Path) -> None:
    player = _live(recorded, 60.0)
    player.step()
    assert _count(player, 300) == len(TelemetryDB(recorded).duration().data())
    states = [row["state"] for row in player.snapshot(300).workers]
    assert (states.count("stopped"), states.count("killed")) == (29, 1)


def test_older_files_are_read_for_the_window_of_all_some_at_each_step(recorded: Path) -> None:
    player = _live(recorded, 86_400.0)
    player.step()
    assert _count(player, None) == 0
    assert player.progress.older_files == 0
    player.read_older()
    assert player.progress.older_files > 0
    player.step()
    assert 0 < _count(player, None) < len(TelemetryDB(recorded).duration().data())
    while player.progress.older_files:
        player.step()
    assert _count(player, None) == len(TelemetryDB(recorded).duration().data())


def test_what_is_recorded_now_can_not_be_moved(recorded: Path) -> None:
    player = _live(recorded, 60.0)
    player.step()
    before = player.progress
    player.seek(-10)
    player.seek_to(EPOCH_NS)
    assert player.progress == before


def test_a_paused_view_of_now_goes_on_with_the_present(recorded: Path) -> None:
    clock = FakeClock(EPOCH_NS + 60 * NS_PER_S)
    player = Player(Running([str(recorded)], clock.now_ns), clock)
    player.step()
    player.pause(is_paused=True)
    clock.now_ns += 30 * NS_PER_S
    player.step()
    assert player.progress.now_ns == EPOCH_NS + 60 * NS_PER_S
    player.pause(is_paused=False)
    player.step()
    assert player.progress.now_ns == EPOCH_NS + 90 * NS_PER_S
    assert player.progress.mode == "live"


def test_a_replay_stays_within_its_recording(recorded: Path) -> None:
    past = Past(TelemetryDB(recorded))
    clock = FakeClock(1)
    player = Player(past, clock, begin_ns=0)
    assert past.span_ns is not None
    assert player.progress.now_ns == past.span_ns[0]
    player.seek_to(2**62)
    assert player.progress.mode == "ended"
    assert _count(player, None) == len(TelemetryDB(recorded).duration().data())


def test_an_empty_recording_can_be_replayed(tmp_path: Path) -> None:
    player = Player(Past(TelemetryDB(tmp_path)), FakeClock(1), begin_ns=EPOCH_NS)
    player.step()
    player.seek(10)
    assert _count(player, None) == 0
