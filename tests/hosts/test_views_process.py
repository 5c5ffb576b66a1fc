from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aqltelemetry import Monitor, TelemetryDB
from aqltelemetry.aiohttp import add_routes
from aqltelemetry.asgi import TelemetryViews
from aqltelemetry.errors import OptionError, ViewsError, WrongApplicationError
from aqltelemetry.hosts import views_process
from aqltelemetry.hosts.views_process import ViewsProcess
from aqltelemetry.views.document import Options, document
from pages import get
from servers import is_alive, wait_until

Client = TestClient[web.Request, web.Application]
_SERVICE = """
import sys
from aiohttp import web
from aqltelemetry.aiohttp import add_routes, setup
from aqltelemetry.hosts import views_process
views_process._IDLE_S = 3600.0
async def hello(request):
    return web.Response(text="hello")
app = web.Application()
app.router.add_get("/users/{user}", hello)
setup(app, sys.argv[1])
add_routes(app)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
"""


@pytest.fixture(autouse=True)
def short_life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The process of a test ends soon, and no two tests share one."""
    monkeypatch.setattr(views_process, "_IDLE_S", 2.0)
    directory = Path(tempfile.mkdtemp(prefix="views"))  # short: the path of a socket has a limit
    monkeypatch.setattr(tempfile, "tempdir", str(directory))


@pytest.fixture
async def client(five_requests: Path) -> AsyncIterator[Client]:
    app = web.Application()
    add_routes(app, "/internal/telemetry", five_requests)
    async with TestClient(TestServer(app)) as client:
        yield client


def _processes() -> list[psutil.Process]:
    """Return the processes that show recordings, of this test alone."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "aqltelemetry.views.serve.child" in line and tempfile.gettempdir() in " ".join(line):
            found.append(process)
    return [each for each in found if is_alive(each.pid)]


def _document(five_requests: Path) -> dict[str, Any]:
    return document(TelemetryDB(five_requests), Options(top=300, slowest=50))


async def _status(views: ViewsProcess) -> int:
    async with views.get("/report.json", "") as answer:
        return answer.status


async def _asgi(app: TelemetryViews, path: str, **scope: Any) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    start = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app({**start, **scope}, receive, send)
    headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    assert sent[-1]["more_body"] is False
    return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:])


@pytest.mark.system
async def test_an_aiohttp_application_shows_its_recording(
    client: Client, five_requests: Path
) -> None:
    async with client.get("/internal/telemetry?x=1") as response:
        assert response.status == 200
        assert response.url.path == "/internal/telemetry/"
        assert response.content_type == "text/html"
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with client.get("/internal/telemetry/report.json") as response:
        assert await response.json() == _document(five_requests)
    async with client.get("/internal/telemetry/strips?bins=0") as response:
        assert response.status == 400
    async with client.get("/internal/telemetry/strips?bins=3") as response:
        assert (await response.json())["bins"] <= 3
    async with client.get("/internal/telemetry/events") as response:
        text = await response.text()
    data = '{"observations": 5, "strips": 1, "report": 1}'
    assert text == f"retry: 1000\nevent: changed\nid: 2\ndata: {data}\n\n"
    for path in ("../etc/passwd", "x y\r\nX: 1", "%0d%0aX: 1"):
        async with client.get(f"/internal/telemetry/{path}") as response:
            assert response.status == 404
    async with client.post("/internal/telemetry/") as response:
        assert response.status == 405


@pytest.mark.system
async def test_an_asgi_application_shows_its_recording(five_requests: Path) -> None:
    app = TelemetryViews(five_requests)
    for path, root in (("/telemetry/report.json", "/telemetry"), ("/report.json", "/telemetry")):
        status, headers, body = await _asgi(app, path, root_path=root)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body) == _document(five_requests)
    status, headers, _ = await _asgi(app, "/telemetry", root_path="/telemetry")
    assert (status, headers["location"]) == (308, "/telemetry/")
    status, headers, body = await _asgi(app, "/strips", query_string=b"bins=3&begin=x")
    assert (status, b"must be" in body) == (400, True)
    status, headers, _ = await _asgi(app, "/", method="POST")
    assert status == 405


@pytest.mark.system
async def test_workers_share_one_process_of_low_priority_which_ends_when_nobody_looks(
    five_requests: Path,
) -> None:
    workers = [ViewsProcess(five_requests) for _ in range(3)]
    for worker in workers:
        assert await _status(worker) == 200
    (process,) = _processes()
    assert process.nice() == 19
    wait_until(lambda: not _processes(), "the end of the process")
    assert await _status(workers[0]) == 200


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_ends_with_the_service_however_that_ends(
    directory: Path, free_port: Any, number: signal.Signals
) -> None:
    port = free_port()
    environ = {**os.environ, "TMPDIR": tempfile.gettempdir()}
    command = [sys.executable, "-c", _SERVICE, str(directory), str(port)]
    with subprocess.Popen(command, env=environ) as service:
        url = f"http://127.0.0.1:{port}"
        get(f"{url}/users/1", service)
        report = json.loads(get(f"{url}/_telemetry/report.json", service))
        assert "/users/{user} [GET]" in {row["label"] for row in report["durations"]}
        (process,) = _processes()
        service.send_signal(number)
        service.wait(60)
        # Long before it would end because nobody looks.
        process.wait(60)


@pytest.mark.system
async def test_a_process_that_was_killed_is_replaced(five_requests: Path) -> None:
    views = ViewsProcess(five_requests)
    assert await _status(views) == 200
    (process,) = _processes()
    process.kill()
    wait_until(lambda: not _processes(), "the end of the process")
    with pytest.raises(ViewsError, match="exit status -9"):
        await _status(views)
    assert await _status(views) == 200


async def test_a_process_that_can_not_be_started_is_reported(
    client: Client, five_requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    async with client.get("/internal/telemetry/") as response:
        assert response.status == 503
        assert "No such file" in await response.text()
    status, _, body = await _asgi(TelemetryViews(five_requests), "/")
    assert (status, b"No such file" in body) == (503, True)


@pytest.mark.parametrize("mode", [0o777, 0o710, None])
async def test_a_directory_that_others_can_access_is_not_used(
    five_requests: Path, mode: int | None
) -> None:
    path = Path(tempfile.gettempdir()) / f"aqltelemetry-{os.geteuid()}"
    if mode is None:
        path.symlink_to("/tmp")
    else:
        path.mkdir()
        path.chmod(mode)
    with pytest.raises(ViewsError, match="only this user can access"):
        await _status(ViewsProcess(five_requests))


def test_the_process_is_not_recorded_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AQLTELEMETRY_RUN", "program")
    monkeypatch.setenv("OTHER", "kept")
    environ = views_process._environment()
    assert environ["OTHER"] == "kept"
    assert not any(name.startswith("AQLTELEMETRY_") for name in environ)


async def test_the_recording_of_this_process_is_shown_by_default(
    directory: Path, tmp_path: Path
) -> None:
    views, other = ViewsProcess(), ViewsProcess(tmp_path)
    async with Monitor(directory, journal_dir="memory"):
        assert views._chosen().directory == str(directory)
        assert views._chosen().journal_dir == "memory"
        assert other._chosen().directory == str(tmp_path)
        assert other._chosen().journal_dir == "auto"
        # The journal of a directory that is given is that of its recording.
        assert ViewsProcess(directory)._chosen().journal_dir == "memory"
    assert views._chosen().directory == str(Path("_monitoring").absolute())


@pytest.mark.parametrize("prefix", ["telemetry", "/telemetry/", "/", ""])
def test_a_wrong_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(OptionError, match="slash"):
        add_routes(web.Application(), prefix)


def test_only_an_aiohttp_application_gets_routes() -> None:
    with pytest.raises(WrongApplicationError):
        add_routes(TelemetryViews())  # type: ignore[arg-type]


async def test_an_asgi_application_answers_http_only() -> None:
    app, sent = TelemetryViews(), []
    received: Iterator[str] = iter(("lifespan.startup", "lifespan.shutdown", "websocket.connect"))

    async def receive() -> Any:
        return {"type": next(received)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket"}, receive, send)
    assert sent == [
        *("lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"),
    ]
