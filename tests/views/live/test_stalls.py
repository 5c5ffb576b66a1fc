"""The latest stalls are shown with their lines, live and in a replay."""

from __future__ import annotations

from pathlib import Path

from aqltelemetry import TelemetryDB
from aqltelemetry.views.live.player import Player
from aqltelemetry.views.live.sources import Past, Running
from aqltelemetry.views.live.stalls import KEPT
from fakes import EPOCH_NS
from published import PROCESSES, Row, publish
from stalled import detail, write_details

_S = 1_000_000_000


def _publish(directory: Path, number: int) -> None:
    publish(directory, [Row(EPOCH_NS + at * _S, 0.1, "x", PROCESSES[0]) for at in range(200)])
    rows = [
        Row(EPOCH_NS + at * _S, 0.1 + at / 1000, "no CPU", PROCESSES[0]) for at in range(number)
    ]
    publish(directory, rows, "stall")


def _lengths(player: Player, window_s: int | None) -> list[int]:
    """Return the lengths of the shown stalls, less 100 ms, in milliseconds."""
    return [round(1000 * row["length_s"]) - 100 for row in player.snapshot(window_s).stalls]


def test_the_latest_stall_comes_first_with_the_line_of_its_details(tmp_path: Path) -> None:
    _publish(tmp_path, 3)
    write_details(tmp_path, detail(0.102, "no CPU", end_ns=EPOCH_NS + 7))
    player = Player(Running([str(tmp_path)], EPOCH_NS), lambda: EPOCH_NS + 5 * _S)
    player.step()
    assert _lengths(player, 60) == [2, 1, 0]
    first, second, _ = player.snapshot(60).stalls
    assert (first["line"], first["function"], first["end_ns"]) == (
        "/srv/app.py:7",
        "view",
        EPOCH_NS + 7,
    )
    assert (second["line"], second["end_ns"]) == ("", EPOCH_NS + _S)


def test_a_replay_has_the_stalls_of_its_window_and_forgets_later_ones(tmp_path: Path) -> None:
    _publish(tmp_path, 150)
    player = Player(Past(TelemetryDB(tmp_path)), lambda: 0, begin_ns=EPOCH_NS + 120 * _S)
    assert _lengths(player, 10) == [*range(119, 109, -1)]
    assert len(_lengths(player, None)) == KEPT
    player.seek_to(EPOCH_NS + 5 * _S)
    assert _lengths(player, None) == [4, 3, 2, 1, 0]


def test_without_stalls_no_details_are_read(tmp_path: Path) -> None:
    publish(tmp_path, [Row(EPOCH_NS, 0.1, "x", PROCESSES[0])])
    source = Running([str(tmp_path)], EPOCH_NS)
    player = Player(source, lambda: EPOCH_NS + _S)
    player.step()
    source.details_of_stalls = None  # type: ignore[method-assign, assignment]
    assert not player.snapshot(60).stalls
