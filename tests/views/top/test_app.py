"""The live view, driven by keys and clicks, with a clock that the tests set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from aqltelemetry import TelemetryDB
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.columns import Row
from aqltelemetry.views.live.player import Player
from aqltelemetry.views.live.sources import Past
from aqltelemetry.views.top.app import TopApp
from aqltelemetry.views.top.help import Help
from aqltelemetry.views.top.options import Options
from aqltelemetry.views.top.table import Table
from fakes import EPOCH_NS, FakeClock
from recordings import Recording, Route

_SMALL, _LARGE = (80, 24), (200, 50)
_FINDING = {"severity": "error", "text": "Worker 4001 was killed.", "rule": "killed"}


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    recording = Recording(120.0, seed=5)
    for _ in range(2):
        worker = recording.add_worker()
        worker.serve(Route("/orders/{id} [GET]", per_s=20, median_s=0.01, outcomes={"5xx": 0.02}))
        worker.serve(Route("/search [GET]", per_s=5, median_s=0.3))
        worker.serve(Route("/health [GET]", per_s=1, median_s=0.001))
        worker.sample("cpu percent", lambda at: 0 * at + 40)
        worker.sample("requests in flight", lambda at: 0 * at + 3)
    recording.workers[1].die(90.0)
    return Past(TelemetryDB(recording.write(tmp_path_factory.mktemp("recorded"))))


class _Case:
    """The running application and its clock."""

    def __init__(self, app: TopApp, pilot: Pilot[None], clock: FakeClock) -> None:
        self.app, self.pilot, self.clock = app, pilot, clock

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def pass_s(self, seconds: float) -> None:
        self.clock.now_ns += round(seconds * NS_PER_S)
        await self.app.step()
        await self.pilot.pause()

    def table(self, view: str = "routes") -> Table:
        return self.app.query_one(f"#{view}", Table)

    def labels(self) -> list[str]:
        return [row["label"] for row in self.table().rows]

    def order(self) -> str | None:
        column = self.table().sorted_by
        return None if column is None else column.key

    def lines(self) -> list[str]:
        """Return what is on the screen."""
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    def line(self, part: str) -> str:
        (found,) = (line for line in self.lines() if part in line)
        return found


@asynccontextmanager
async def _running(
    past: Past,
    options: Options = Options(),  # noqa: B008 - it can't be changed
    size: tuple[int, int] = _SMALL,
    findings: Sequence[Row] = (),
) -> AsyncIterator[_Case]:
    clock = FakeClock(1000 * NS_PER_S)
    past.rewind()
    player = Player(past, clock, begin_ns=EPOCH_NS + 80 * NS_PER_S)
    app = TopApp(lambda: player, "somewhere", options, find=lambda _: findings, is_timed=False)
    async with app.run_test(size=size) as pilot:
        case = _Case(app, pilot, clock)
        await case.pass_s(0)
        yield case


async def test_routes_are_shown_by_their_rate(past: Past) -> None:
    async with _running(past) as case:
        assert case.labels() == ["/orders/{id} [GET]", "/search [GET]", "/health [GET]"]
        assert "2 workers" in case.line("requests/s")
        assert "per s▼" in case.line("label")


async def test_each_step_shows_later_figures(past: Past) -> None:
    async with _running(past) as case:
        before = case.lines()
        await case.pass_s(2)
        assert case.lines() != before
        assert "replay" in case.lines()[0]


async def test_keys_choose_the_view(past: Past) -> None:
    async with _running(past) as case:
        await case.press("2")
        assert case.table("workers").display
        assert not case.table().display
        assert "running" in case.line("4000 ")
        await case.press("3")
        slowest = [row["duration_s"] for row in case.table("slowest").rows]
        assert slowest == sorted(slowest, reverse=True)
        await case.press("1")
        assert case.table().display


async def test_routes_and_workers_are_both_shown_on_a_tall_terminal(past: Past) -> None:
    async with _running(past, size=_LARGE) as case:
        assert case.table().display
        assert case.table("workers").display
        await case.press("3")
        assert not case.table().display


async def test_s_sorts_by_the_next_column_and_r_reverses(past: Past) -> None:
    async with _running(past, Options(sort="p99")) as case:
        assert case.labels()[0] == "/search [GET]"
        await case.press("r")
        assert case.labels()[-1] == "/search [GET]"
        await case.press("s")
        assert case.order() == "max_s"
        await case.press("S", "S")
        assert case.order() == "p50_s"


async def test_a_click_on_a_head_sorts_and_a_second_one_reverses(past: Past) -> None:
    async with _running(past) as case:
        x = case.line("label").index("p99")
        await case.pilot.click("#routes", offset=(x, 0))
        assert case.labels()[0] == "/search [GET]"
        await case.pilot.click("#routes", offset=(x, 0))
        assert case.labels()[-1] == "/search [GET]"


async def test_a_click_on_a_view_or_window_chooses_it(past: Past) -> None:
    async with _running(past) as case:
        y = case.lines().index(case.line("1 routes"))
        await case.pilot.click(offset=(case.line("1 routes").index("3 slowest"), y))
        assert case.app.view == "slowest"
        await case.pilot.click(offset=(case.line("1 routes").index(" all ") + 1, y))
        await case.pilot.pause()
        assert case.app.window == "all"


async def test_a_filter_shows_only_what_it_matches(past: Past) -> None:
    async with _running(past) as case:
        await case.press("slash", "o", "r", "enter")
        assert case.labels() == ["/orders/{id} [GET]"]
        await case.press("escape")
        assert len(case.labels()) == 3


@pytest.mark.parametrize(
    ("pattern", "found"), [("SEARCH", 1), ("/*[get]", 3), ("*th [?ET]", 1), ("{id}", 1), ("x", 0)]
)
async def test_a_filter_is_a_part_or_a_pattern(past: Past, pattern: str, found: int) -> None:
    async with _running(past, Options(pattern=pattern)) as case:
        assert len(case.labels()) == found


async def test_a_paused_display_stands_still(past: Past) -> None:
    async with _running(past) as case:
        await case.press("space")
        before = case.lines()
        assert "paused" in before[0]
        await case.pass_s(5)
        assert case.lines() == before
        await case.press("space")
        await case.pass_s(5)
        assert "paused" not in case.lines()[0]
        assert case.lines() != before


async def test_arrows_move_a_replay(past: Past) -> None:
    async with _running(past) as case:
        await case.press("right")
        assert "22:14:50" in case.lines()[0] or ":50" in case.lines()[0]
        await case.press("shift+left")
        assert ":50" in case.lines()[0]
        await case.press("shift+right", "shift+right", "shift+right")
        assert "end of the recording" in case.lines()[0]


async def test_a_killed_worker_is_shown(past: Past) -> None:
    async with _running(past, Options(view="workers")) as case:
        await case.pass_s(15)
        assert "killed" in case.line("4001 ")
        assert "1 killed" in case.line("requests/s")


async def test_w_chooses_the_next_window(past: Past) -> None:
    async with _running(past) as case:
        counts = []
        for _ in range(4):
            counts.append(sum(row["count"] for row in case.table().rows))
            await case.press("w")
        assert counts[3] < counts[0] <= counts[1] == counts[2]


async def test_findings_are_on_top_and_have_a_view(past: Past) -> None:
    async with _running(past, findings=[_FINDING] * 5) as case:
        shown = [number for number, line in enumerate(case.lines()) if "was killed" in line]
        assert shown == [2, 3]
        assert "3 more findings" in case.lines()[4]
        await case.press("4")
        assert len(case.table("findings").rows) == 5


async def test_a_long_finding_goes_on_in_the_next_line(past: Past) -> None:
    text = "Worker 4001 needs 3.1 times as long as the others for the same requests, " * 2
    async with _running(
        past, findings=[{**_FINDING, "text": text.strip(), "rule": "slow worker"}]
    ) as case:
        await case.press("4")
        shown = [line[1:].strip() for line in case.lines()[4:-1]]
        assert " ".join(" ".join(shown).split()) == f"error {text.strip()} [slow worker]"


async def test_what_is_typed_as_a_filter_is_shown(past: Past) -> None:
    async with _running(past) as case:
        await case.press("slash", "x", "y")
        assert any(line.startswith(" xy") for line in case.lines()[-3:])


async def test_the_help_explains_each_column(past: Past) -> None:
    async with _running(past, size=_LARGE) as case:
        await case.press("question_mark")
        assert isinstance(case.app.screen, Help)
        text = " ".join(case.lines())
        assert "99 % of the durations do not exceed it" in text
        assert "pause the display" in text
        await case.press("escape")
        assert not isinstance(case.app.screen, Help)


async def test_the_cursor_stays_on_its_row_when_the_order_changes(past: Past) -> None:
    async with _running(past) as case:
        await case.press("down")
        chosen = case.labels()[case.table().cursor]
        assert chosen == "/search [GET]"
        await case.press("r")
        assert case.labels()[case.table().cursor] == chosen


async def test_the_wheel_scrolls_the_rows(past: Past) -> None:
    async with _running(past, Options(view="slowest")) as case:
        table = case.table("slowest")
        assert table.max_scroll_y > 10
        table._on_mouse_scroll_down(_wheel(table))
        await case.pilot.pause()
        assert table.scroll_y > 0


def _wheel(table: Table) -> Any:
    from textual.events import MouseScrollDown

    return MouseScrollDown(table, 5, 5, 0, 1, 0, False, False, False)


async def test_a_narrow_terminal_has_fewer_columns(past: Past) -> None:
    async with _running(past, size=(40, 12)) as case:
        assert all(len(line) <= 40 for line in case.lines())
        keys = [place.column.key for place in case.table().places]
        assert keys[0] == "label"
        assert "p99_s" in keys
        assert "sum_s" not in keys


async def test_a_directory_that_does_not_exist_is_waited_for(past: Past) -> None:
    answers: list[Any] = ["x does not exist yet", Player(past, FakeClock(1), begin_ns=EPOCH_NS)]
    opened: Callable[[], Any] = lambda: answers.pop(0)  # noqa: E731
    app = TopApp(opened, "x", Options(), is_timed=False)
    async with app.run_test(size=_SMALL) as pilot:
        await app.step()
        message = app.query_one("#message", Static)
        assert message.display
        assert "x does not exist yet" in str(message.render())
        await app.step()
        await app.action_seek(60)
        await pilot.pause()
        assert not message.display


async def test_only_lines_that_changed_are_drawn_again(past: Past) -> None:
    async with _running(past) as case:
        drawn: list[int] = []
        table = case.table()
        draw = table.render_line

        def note(y: int) -> Any:
            drawn.append(y)
            return draw(y)

        table.render_line = note  # type: ignore[method-assign]
        await case.app._refresh(moves=False)
        await case.pilot.pause()
        assert drawn == []
        await case.pass_s(3)
        assert drawn
