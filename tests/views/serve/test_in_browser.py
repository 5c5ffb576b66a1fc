"""The live page in a real browser."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from browser import PHONE, WIDE, Chromium, Visit
from live_page import RECORDED, record, serving
from pages import get
from planted import planted

pytestmark = pytest.mark.system
_SHOWN = ("count", "p50", "p99", "max")
_SERVICE = """
import sys
from aiohttp import web
from aqltelemetry.aiohttp import add_routes, setup
async def hello(request):
    return web.Response(text="hello")
app = web.Application()
app.router.add_get("/users/{user}", hello)
app.router.add_get("/late", hello)
setup(app, sys.argv[1])
add_routes(app)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
"""
_TOKEN = "a token that is long enough"
_RECORDING = """
import sys
from aqltelemetry import sync
sync.start(sys.argv[1])
for line in sys.stdin:
    with sync.time_block(line.strip()):
        pass
    print("recorded", flush=True)
sync.stop()
"""


@pytest.fixture
def recorded(directory: Path) -> Path:
    record(directory)
    return directory


@contextmanager
def _recording(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that records a block for each line that it gets."""
    command = [sys.executable, "-c", _RECORDING, str(directory)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def _record(process: subprocess.Popen[str], label: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{label}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "recorded\n"


def _rows(visit: Visit) -> dict[str, list[str]]:
    """Return the cells of the table of durations, by label."""
    rows = visit.page.locator("#durations-table tbody tr").all()
    cells = [row.locator("th, td").all_inner_texts() for row in rows]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells}


def _heads(visit: Visit) -> list[str]:
    heads = visit.page.locator("#durations-table thead th").all_inner_texts()
    return [head.split()[0] for head in heads]


def _counts(visit: Visit) -> dict[str, int]:
    column = _heads(visit).index("count") - 1
    return {label: int(row[column].replace(",", "")) for label, row in _rows(visit).items()}


def test_the_numbers_of_the_page_are_those_of_the_summary(
    chromium: Chromium, recorded: Path
) -> None:
    with serving(recorded) as url, chromium.open(url) as visit:
        visit.page.locator("#live", has_text="live").wait_for()
        rows, heads = _rows(visit), _heads(visit)
        visit.page.fill("#filter", "USERS")
        assert list(_rows(visit)) == ["/users [POST]"]
    assert visit.problems() == []
    summary = TelemetryDB(recorded).summary().to_dict("index")
    assert set(rows) == set(summary)
    for label, row in rows.items():
        shown = {head: float(row[heads.index(head) - 1].replace(",", "")) for head in _SHOWN}
        assert shown["count"] == summary[label]["count"]
        for head in _SHOWN[1:]:
            exact_ms = 1000 * summary[label][f"{head}_s"]
            assert shown[head] == pytest.approx(exact_ms, abs=6e-4, rel=6e-3)


def test_an_observation_is_shown_while_its_process_records(
    chromium: Chromium, directory: Path
) -> None:
    with _recording(directory) as process:
        _record(process, "first")
        with serving(directory) as url, chromium.open(url) as visit:
            visit.page.locator("#live", has_text="live").wait_for()
            assert _counts(visit) == {"first": 1}
            _record(process, "second")
            row = visit.page.locator("#durations-table tbody tr", has_text="second")
            row.wait_for()
            assert _counts(visit) == {"first": 1, "second": 1}
            # While the page is paused, it asks for nothing; then it catches up.
            visit.page.click("#pause")
            asked: list[str] = []
            visit.page.on("request", lambda request: asked.append(request.url))
            _record(process, "third")
            visit.page.locator("#live", has_text="paused").wait_for()
            visit.page.wait_for_timeout(1500)
            assert asked == []
            assert _counts(visit) == {"first": 1, "second": 1}
            visit.page.click("#pause")
            visit.page.locator("#durations-table tbody tr", has_text="third").wait_for()
        assert visit.problems() == []


def test_a_zoom_asks_for_finer_bins_and_keys_do_what_the_mouse_does(
    chromium: Chromium, directory: Path
) -> None:
    planted("slow worker", 1).write(directory)
    with serving(directory) as url, chromium.open() as visit:
        page = visit.page
        with page.expect_response(re.compile(r"/strips\?bins=\d+$")) as answered:
            page.goto(url)
        overview = answered.value.json()
        page.locator("#live", has_text="live").wait_for()
        whole = page.input_value("#from"), page.input_value("#to")
        with page.expect_response(re.compile(r"/strips\?begin=[\d.]+&end=[\d.]+&")) as answered:
            page.click("#zoom-in")
        found = answered.value.json()
        assert found["bin_ms"] < overview["bin_ms"]
        assert (page.input_value("#from"), page.input_value("#to")) != whole
        page.focus("#charts")
        page.keyboard.press("0")
        assert (page.input_value("#from"), page.input_value("#to")) == whole
        page.keyboard.press("ArrowRight")
        assert "Rate" in (page.text_content("#cursor-text") or "")
        with page.expect_response(re.compile(r"/strips\?")):
            page.keyboard.press("+")
        over = page.locator("#strip-durations .u-over")
        over.scroll_into_view_if_needed()
        chart = over.bounding_box()
        assert chart is not None
        with page.expect_response(re.compile(r"/strips\?")):
            page.mouse.move(chart["x"] + chart["width"] * 0.2, chart["y"] + 90)
            page.mouse.down()
            page.mouse.move(chart["x"] + chart["width"] * 0.7, chart["y"] + 90, steps=5)
            page.mouse.up()
    assert visit.problems() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_the_page_is_accessible(
    chromium: Chromium, recorded: Path, tmp_path: Path, scheme: str, size: tuple[int, int]
) -> None:
    with (
        serving(recorded) as url,
        chromium.open(url, size=size, color_scheme=scheme) as visit,
    ):
        visit.page.locator("#live", has_text="live").wait_for()
        assert visit.axe() == []
        visit.screenshot(tmp_path / f"{scheme}-{size[0]}.png")
    assert visit.problems() == []


def test_without_the_token_the_page_is_refused(
    chromium: Chromium, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQLTELEMETRY_TOKEN", _TOKEN)
    with serving(recorded) as url:
        assert url.endswith(f"/?token={_TOKEN}".replace(" ", "%20"))
        bare = url.partition("?")[0]
        with chromium.open() as visit:
            response = visit.page.goto(bare)
            assert response is not None
            assert response.status == 401
            assert "the token is missing" in visit.page.inner_text("body")
            visit.page.goto(url)
            assert visit.page.url == bare
            visit.page.locator("#live", has_text="live").wait_for()
            assert _counts(visit) == RECORDED
            (cookie,) = visit.page.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        with chromium.open() as visit:
            response = visit.page.goto(f"{bare}?token={_TOKEN[:-1]}x")
            assert response is not None
            assert response.status == 401


def test_a_page_without_a_server_says_so_and_goes_on_when_it_is_back(
    chromium: Chromium, recorded: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with chromium.open() as visit:
        with serving(recorded, "--port", port) as url:
            visit.page.goto(url)
            visit.page.locator("#live", has_text="live").wait_for()
        visit.page.locator("#live", has_text="no connection").wait_for()
        with serving(recorded, "--port", port):
            visit.page.locator("#live", has_text="live").wait_for()


def test_a_service_shows_its_own_requests(
    chromium: Chromium, directory: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    command = [sys.executable, "-c", _SERVICE, str(directory), str(port)]
    with subprocess.Popen(command) as service, ExitStack() as at_end:
        at_end.callback(service.kill)
        url = f"http://127.0.0.1:{port}"
        get(f"{url}/users/1", service)
        with chromium.open(f"{url}/_telemetry") as visit:
            assert visit.page.url == f"{url}/_telemetry/"
            visit.page.locator("#live", has_text="live").wait_for()
            row = visit.page.locator("#durations-table tbody tr", has_text="/users/{user} [GET]")
            row.first.wait_for()
            get(f"{url}/late")
            visit.page.locator("#durations-table tbody tr", has_text="/late [GET]").first.wait_for()
            assert visit.page.inner_text("#live") == "live"
            assert visit.axe() == []
            # The page does not keep the service from ending.
            service.send_signal(signal.SIGTERM)
            assert service.wait(20) == 0
        assert visit.elsewhere == []


def test_an_interrupt_ends_it_while_browsers_look(chromium: Chromium, recorded: Path) -> None:
    with chromium.open() as visit, serving(recorded) as url:
        visit.page.goto(url)
        visit.page.locator("#live", has_text="live").wait_for()
