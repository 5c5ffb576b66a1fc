"""The metrics of a WSGI application: passed on as a server calls it, and under a real Gunicorn."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from aqltelemetry import sync
from aqltelemetry.errors import OptionError, ViewsError, WrongApplicationError
from aqltelemetry.hosts import views_process
from aqltelemetry.hosts.views_process import ViewsProcess, WholeAnswer
from aqltelemetry.recording import recorder
from aqltelemetry.wsgi import TelemetryMetrics, TelemetryMiddleware
from pages import get
from servers import PROGRAMS, gunicorn, wait_until

Counts = Callable[..., dict[str, int]]
_PROGRAM = f"""{PROGRAMS["flask"]}
from aqltelemetry.wsgi import TelemetryMetrics, TelemetryMiddleware
app.wsgi_app = TelemetryMetrics(TelemetryMiddleware(app.wsgi_app, "recorded"), buckets=[0.5, 60])
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Answer all scrapes without another process; return their paths and headers."""
    found: list[tuple[str, str]] = []

    def answer(_self: ViewsProcess, path: str, accept: str, _wait_s: float) -> WholeAnswer:
        found.append((path, accept))
        return WholeAnswer(200, {"Content-Type": "text/plain", "Content-Length": "9"}, b"metrics")

    monkeypatch.setattr(ViewsProcess, "get_blocking", answer)
    return found


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    if recorder.is_on():
        sync.stop()


def _plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def _call(
    app: Callable[..., Iterable[bytes]], path: str, **environ: Any
) -> tuple[str, dict[str, str], bytes]:
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": path}
    started: list[Any] = []
    body = app(environ, lambda *given: started.extend(given))
    data = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return started[0], dict(started[1]), data


def test_one_path_is_answered_and_all_others_are_the_applications(
    asked: list[tuple[str, str]],
) -> None:
    app = TelemetryMetrics(_plain, "/own")
    assert _call(app, "/metrics")[2] == _call(app, "/own/a")[2] == b"hello"
    assert asked == []
    status, headers, body = _call(app, "/own", HTTP_ACCEPT="text/html")
    assert (status, body) == ("200 OK", b"metrics")
    assert headers == {"Content-Type": "text/plain", "Content-Length": "7"}
    assert asked == [("/metrics", "text/html")]


def test_without_an_application_each_path_is_answered(asked: list[tuple[str, str]]) -> None:
    assert _call(TelemetryMetrics(), "")[2] == b"metrics"
    assert asked == [("/metrics", "*/*")]


def test_only_get_is_answered(asked: list[tuple[str, str]]) -> None:
    status, _, body = _call(TelemetryMetrics(_plain), "/metrics", REQUEST_METHOD="POST")
    assert (status, body) == ("405 Method Not Allowed", b"only GET is answered\n")
    assert asked == []


def test_a_process_that_can_not_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> WholeAnswer:
        raise ViewsError("it does not answer")

    monkeypatch.setattr(ViewsProcess, "get_blocking", fail)
    status, _, body = _call(TelemetryMetrics(_plain), "/metrics")
    assert status == "503 Service Unavailable"
    assert b"it does not answer" in body


def test_a_scrape_may_be_the_first_request_of_a_recording(
    directory: Path, asked: list[tuple[str, str]], counts: Counts
) -> None:
    app = TelemetryMetrics(TelemetryMiddleware(_plain, directory, with_runtime=False))
    for _ in range(2):
        _call(app, "/metrics")
        assert recorder.is_on()
    _call(app, "/")
    sync.stop()
    assert len(asked) == 2
    assert counts() == {"unmatched": 1, "unmatched ttfb": 1}


def test_a_middleware_around_it_records_the_path(
    directory: Path, asked: list[tuple[str, str]], counts: Counts
) -> None:
    app = TelemetryMiddleware(
        TelemetryMetrics(_plain), directory, with_runtime=False, with_ttfb=False
    )
    _call(app, "/metrics")
    sync.stop()
    assert len(asked) == 1
    assert counts() == {"/metrics [GET]": 1}


def test_wrong_paths_buckets_and_applications_are_refused() -> None:
    with pytest.raises(OptionError, match="slash"):
        TelemetryMetrics(_plain, "metrics")
    with pytest.raises(OptionError, match="ascending"):
        TelemetryMetrics(_plain, buckets=[2, 1])

    async def asgi(scope: object, receive: object, send: object) -> None: ...

    with pytest.raises(WrongApplicationError):
        TelemetryMetrics(asgi)  # type: ignore[arg-type]


def test_a_worker_does_not_wait_longer_than_it_may(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    started: list[str] = []
    monkeypatch.setattr(ViewsProcess, "_start", lambda _self, path, _chosen: started.append(path))
    with tempfile.TemporaryDirectory(prefix="views") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        process = ViewsProcess(directory, views_process.metrics(None))
        with pytest.raises(ViewsError, match="not started yet"):
            process.get_blocking("/metrics", "*/*", 0.05)
    assert started


@pytest.mark.system
@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_workers_of_gunicorn_answer_for_all_of_them(worker: str, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(_PROGRAM)
    short = tempfile.mkdtemp(prefix="views")  # the path of a socket has a limit
    arguments = ("service:app", "--worker-class", worker, "--workers", "2")
    with gunicorn(arguments, tmp_path, {**os.environ, "TMPDIR": short}) as (_, port):
        url = f"http://127.0.0.1:{port}"
        get(f"{url}/users/0")
        before = _counted(get(f"{url}/metrics"))
        for number in range(7):
            get(f"{url}/users/{number}")
        text = get(f"{url}/metrics")
        assert _counted(text) == before + 7
        assert b'le="60.0"' in text
    wait_until(lambda: not list(Path(short).glob("*/metrics-*[0-9a-f]")), "the process has ended")


def _counted(text: bytes) -> int:
    """Return how many requests for users the metrics of a service count."""
    name = b'aqltelemetry_request_duration_seconds_count{method="GET",route="/users/{user}"} '
    _, found, rest = text.partition(name)
    return int(float(rest.split(b"\n", 1)[0])) if found else 0
