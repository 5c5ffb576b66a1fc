"""The WSGI middleware, called like a server does, and under a real Gunicorn."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import flask
import pytest

from aqltelemetry import sync
from aqltelemetry.errors import OptionError
from aqltelemetry.hosts.request_record import InFlight
from aqltelemetry.hosts.wsgi.request_record import Application
from aqltelemetry.recording import recorder
from aqltelemetry.wsgi import TelemetryMiddleware
from published_names import is_published
from servers import run_gunicorn

Counts = Callable[..., Counter[str]]
Rows = Callable[..., list[dict[str, str]]]


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    if recorder.is_on():
        sync.stop()


def _timed(app: Any, directory: Path, **options: Any) -> TelemetryMiddleware:
    return TelemetryMiddleware(
        app, directory, **{"with_runtime": False, "with_ttfb": False, **options}
    )


def _call(app: Application, path: str = "/", method: str = "GET", **environ: Any) -> str:
    """Call an application as a server does; return the status."""
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": path, "REQUEST_METHOD": method}
    statuses: list[str] = []

    def start_response(status: str, headers: object, *exc_info: object) -> object:
        statuses.append(status)
        return lambda data: None

    body = app(environ, start_response)
    try:
        for _ in body:
            pass
    finally:
        if hasattr(body, "close"):
            body.close()
    return statuses[-1]


def _plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def _flask() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.route("/users/<int:user>", methods=["GET", "POST"])
    def user(user: int) -> str:
        return str(user)

    @app.route("/broken")
    def broken() -> str:
        raise RuntimeError("a bug of the application")

    return app


def test_flask_routes_are_templates(directory: Path, counts: Counts) -> None:
    app = _timed(_flask(), directory)
    for path, method in (
        *(("/users/1", "GET"), ("/users/2", "GET"), ("/users/2", "POST")),
        *(("/none", "GET"), ("/broken", "GET")),
    ):
        _call(app, path, method)
    sync.stop()
    assert counts() == {
        "/users/{user} [GET]": 2,
        "/users/{user} [POST]": 1,
        "unmatched": 1,
        "unmatched 4xx": 1,
        "/broken [GET]": 1,
        "/broken [GET] 5xx": 1,
    }


def test_a_user_defined_template_is_used(directory: Path, counts: Counts) -> None:
    app = _timed(_plain, directory, template=lambda environ: "/mine/{id}")
    _call(app, "/mine/7")
    sync.stop()
    assert counts() == {"/mine/{id} [GET]": 1}


@pytest.mark.parametrize("named", ["given", "by its name", "environment"])
def test_where_a_user_defined_template_returns_nothing_the_frameworks_route_is_used(
    directory: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    def template(environ: dict[str, Any]) -> str | None:
        return {"/users/1": "/users/first", "/users/2": ""}.get(environ["PATH_INFO"])

    module = type(sys)("templates_of_wsgi")
    module.function = template  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "templates_of_wsgi", module)
    options: dict[str, Any] = {}
    if named == "environment":
        monkeypatch.setenv("AQLTELEMETRY_TEMPLATE", "templates_of_wsgi:function")
    else:
        options["template"] = template if named == "given" else "templates_of_wsgi:function"
    app = _timed(_flask(), directory, **options)
    for path in ("/users/1", "/users/2", "/users/3", "/none"):
        _call(app, path)
    sync.stop()
    assert counts() == {
        "/users/first [GET]": 1,
        "/users/{user} [GET]": 2,
        "unmatched": 1,
        "unmatched 4xx": 1,
    }


def test_a_wrong_template_is_raised_at_once(directory: Path) -> None:
    for wrong in ("no_such_module:function", 7):
        with pytest.raises(OptionError, match="template"):
            _timed(_plain, directory, template=wrong)


@pytest.mark.parametrize("wrong", [KeyError("tenant"), 7, ["/list"], b"/bytes"], ids=repr)
def test_a_template_that_fails_leaves_the_request_unmatched_and_is_logged_once(
    directory: Path, counts: Counts, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    def template(environ: dict[str, Any]) -> Any:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    app = _timed(_plain, directory, template=template)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert [_call(app) for _ in range(3)] == ["200 OK"] * 3
    sync.stop()
    assert counts() == {"unmatched": 3}
    assert caplog.text.count("no template for a request") == 1


def test_a_status_that_a_server_would_refuse_is_passed_to_the_server(
    directory: Path, counts: Counts
) -> None:
    def wrong(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("fine", [(b"Content-Type", None), ("too", "long", "by one")])
        return None  # type: ignore[return-value]

    with pytest.raises(TypeError, match="not iterable"):
        _call(_timed(wrong, directory))
    sync.stop()
    assert counts() == {"unmatched": 1, "unmatched 5xx": 1}


def test_a_duration_lasts_until_the_body_is_closed(directory: Path, rows: Rows) -> None:
    """And the time to the first byte until the first chunk that is not empty."""
    gate = threading.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        gate.wait(0.05)
        yield b"first"
        gate.wait(0.05)

    _call(_timed(slow, directory, with_ttfb=True))
    sync.stop()
    durations = {row["Label"]: float(row["Measurement"]) for row in rows()}
    assert durations["unmatched ttfb"] > 0.05
    assert durations["unmatched"] > durations["unmatched ttfb"] + 0.05


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("exc", [RuntimeError, SystemExit])
def test_an_exception_out_of_flask_has_its_route(
    directory: Path, counts: Counts, bound: bool, exc: type[BaseException]
) -> None:
    """As with PROPAGATE_EXCEPTIONS, or when Gunicorn stops a worker during a request."""
    app = flask.Flask(__name__)
    app.testing = True

    @app.route("/users/<int:user>")
    def user(user: int) -> str:
        raise exc

    middleware = _timed(app.wsgi_app if bound else app, directory)
    with pytest.raises(exc):
        _call(middleware, "/users/1")
    sync.stop()
    assert counts() == {"/users/{user} [GET]": 1, "/users/{user} [GET] 5xx": 1}


@pytest.mark.parametrize("has_started", [False, True])
def test_an_exception_before_the_response_has_its_route(
    directory: Path, counts: Counts, has_started: bool
) -> None:
    """It is the route that the application has found by then."""

    def broken(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["mine.route"] = "/mine/{id}"
        if not has_started:
            raise SystemExit
        return (1 // 0 for _ in range(1))  # type: ignore[misc]

    app = _timed(broken, directory, template=lambda environ: environ.get("mine.route"))
    with pytest.raises(ZeroDivisionError if has_started else SystemExit):
        _call(app, "/mine/7")
    sync.stop()
    assert counts() == {"/mine/{id} [GET]": 1, "/mine/{id} [GET] 5xx": 1}


@pytest.mark.parametrize("layers", [1, 2])
def test_a_traceback_has_at_most_one_frame_of_each_middleware(
    directory: Path, twin: ModuleType, layers: int
) -> None:
    def broken(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise RuntimeError("a bug of the application")

    sync.start(directory, with_runtime=False)
    app: Any = broken
    for _ in range(layers):
        app = twin.RecordedApplication(app, lambda environ: None, InFlight(), with_ttfb=False)
    with pytest.raises(RuntimeError) as caught:
        _call(app)
    frames = traceback.extract_tb(caught.value.__traceback__)
    ours = [each for each in frames if "aqltelemetry/" in each.filename]
    ours = [each for each in ours if "tests/" not in each.filename]
    assert len(ours) <= layers
    assert frames[-1].name == "broken"


@pytest.mark.parametrize("has_started", [False, True])
def test_an_error_passes_through_and_is_counted(
    directory: Path, counts: Counts, has_started: bool
) -> None:
    def broken(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not has_started:
            raise RuntimeError("a bug of the application")
        start_response("200 OK", [])
        return (1 // 0 for _ in range(1))  # type: ignore[misc]

    with pytest.raises(ZeroDivisionError if has_started else RuntimeError):
        _call(_timed(broken, directory))
    sync.stop()
    assert counts() == {"unmatched": 1, "unmatched 5xx": 1}


def test_a_body_that_is_closed_before_its_end_is_a_disconnect(
    directory: Path, counts: Counts
) -> None:
    def endless(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        while True:
            yield b"x"

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    body: Any = _timed(endless, directory)(environ, lambda *_: None)
    next(body)
    body.close()
    sync.stop()
    assert counts() == {"unmatched": 1, "unmatched disconnect": 1}


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_worker_that_quits_after_the_last_chunk_records_no_disconnect(
    directory: Path, counts: Counts, chunks: int
) -> None:
    def interrupted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        yield from [b"x"] * chunks
        sys.exit(0)

    with pytest.raises(SystemExit):
        _call(_timed(interrupted, directory))
    sync.stop()
    expected = {"unmatched": 1} if chunks == 2 else {"unmatched": 1, "unmatched disconnect": 1}
    assert counts() == expected


def test_a_file_is_passed_to_the_server_as_it_is(directory: Path, counts: Counts) -> None:
    file = io.BytesIO(b"x" * 100_000)

    def send(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]

    environ: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(environ)
    body: Any = _timed(send, directory)(environ, lambda *_: None)
    assert isinstance(body, FileWrapper)
    assert sum(map(len, body)) == 100_000
    body.close()
    assert file.closed
    sync.stop()
    assert counts() == {"unmatched": 1}


def test_event_streams_have_their_own_series(directory: Path, counts: Counts) -> None:
    def events(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return [b"data: 1\n\n"]

    _call(_timed(events, directory))
    sync.stop()
    assert counts() == {"unmatched events": 1}


def test_requests_of_many_threads_are_recorded_from_the_first(
    directory: Path, counts: Counts
) -> None:
    app = _timed(_plain, directory)
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        for _ in range(50):
            _call(app)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sync.stop()
    assert counts() == {"unmatched": 400}


def test_with_an_unusable_directory_the_application_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = TelemetryMiddleware(_plain, "/proc/monitoring")
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert [_call(app) for _ in range(3)] == ["200 OK"] * 3
    assert caplog.text.count("the application runs unrecorded") == 1


def test_a_working_directory_that_was_removed_leaves_the_application_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release = tmp_path / "release"
    release.mkdir()
    monkeypatch.chdir(release)
    release.rmdir()
    app = TelemetryMiddleware(_plain)
    assert _call(app) == "200 OK"
    assert caplog.text.count("the application runs unrecorded") == 1


def test_a_running_monitor_records_the_requests(
    directory: Path, tmp_path: Path, counts: Counts
) -> None:
    sync.start(directory, with_runtime=False)
    _call(_timed(_plain, tmp_path / "other"))
    sync.stop()
    assert counts() == {"unmatched": 1}


def test_a_wrong_option_is_raised_at_once(directory: Path) -> None:
    with pytest.raises(OptionError, match="interval_s"):
        TelemetryMiddleware(_plain, directory, interval_s=0)


def test_many_paths_and_methods_make_few_labels(directory: Path, counts: Counts) -> None:
    flask_app = _flask()
    app = _timed(flask_app, directory)
    flask_app.add_url_rule("/any/<name>", view_func=lambda name: name, methods=["PURGE", "MOVE"])
    for number in range(10_000):
        _call(app, f"/x/{number}")
        _call(app, f"/any/{number}", ("PURGE", "MOVE")[number % 2])
    sync.stop()
    assert counts() == {"unmatched": 10_000, "unmatched 4xx": 10_000, "/any/{name} [OTHER]": 10_000}


def test_routes_beyond_the_limit_of_labels_share_one(directory: Path, counts: Counts) -> None:
    app = _timed(_plain, directory, template=lambda environ: environ["PATH_INFO"])
    for number in range(1_100):
        _call(app, f"/{number}")
    sync.stop()
    found = counts()
    assert found.pop("other [GET]") == 100
    assert found == {f"/{number} [GET]": 1 for number in range(1_000)}


_FLASK = """
from flask import Flask
from aqltelemetry.wsgi import TelemetryMiddleware
from aqltelemetry.hosts.wsgi.request_record import Application
app = Flask(__name__)
app.wsgi_app = TelemetryMiddleware(app.wsgi_app, "_monitoring")
@app.get("/users/<user>")
def hello(user):
    return f"hello {user}"
"""
_DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from aqltelemetry.wsgi import TelemetryMiddleware
from aqltelemetry.hosts.wsgi.request_record import Application
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
urlpatterns = [path("users/<str:user>", lambda request, user: HttpResponse(f"hello {user}"))]
app = TelemetryMiddleware(get_wsgi_application(), "_monitoring")
"""


def test_an_exception_out_of_django_has_its_route(directory: Path, counts: Counts) -> None:
    """In its own process, since Django is configured once in a process."""
    program = _DJANGO.replace('HttpResponse(f"hello {user}")', "exit()")
    program += """
from wsgiref.util import setup_testing_defaults
environ = {"PATH_INFO": "/users/1"}
setup_testing_defaults(environ)
app(environ, None)
"""
    program = program.replace("_monitoring", str(directory))
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert counts() == {"/users/{user} [GET]": 1, "/users/{user} [GET] 5xx": 1}


def test_the_child_of_a_process_that_has_answered_starts_its_own_recording(
    directory: Path, rows: Rows
) -> None:
    """With samples, unlike a child that is recorded by its parent's recording."""
    program = """
import os, sys
from aqltelemetry import sync
from aqltelemetry.wsgi import TelemetryMiddleware
def application(environ, start_response):
    start_response("200 OK", [])
    return [b""]
app = TelemetryMiddleware(application, sys.argv[1], template=lambda environ: "/x")
def answer():
    body = app({}, lambda *arguments: None)
    list(body)
    body.close()
answer()
if os.fork() == 0:
    answer()
    sync.stop()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
sync.stop()
"""
    subprocess.run([sys.executable, "-c", program, str(directory)], check=True, timeout=60)
    assert [row["Label"] for row in rows()] == ["/x [GET]", "/x [GET]"]
    pids = {row["PID"] for row in rows()}
    assert len(pids) == 2
    assert {row["PID"] for row in rows("runtime") if row["Label"] == "rss"} == pids


@pytest.mark.system
@pytest.mark.parametrize("program", [_FLASK, _DJANGO], ids=["flask", "django"])
@pytest.mark.parametrize(
    "arguments",
    [("--worker-class", "sync"), ("--worker-class", "gthread", "--threads", "4"), ("--preload",)],
    ids=["sync", "gthread", "preload"],
)
def test_each_request_to_gunicorn_is_one_observation_of_a_worker(
    tmp_path: Path, directory: Path, rows: Rows, arguments: tuple[str, ...], program: str
) -> None:
    (tmp_path / "app.py").write_text(program.replace("_monitoring", str(directory)))
    command = ("app:app", "--workers", "2", *arguments)
    master, answered = run_gunicorn(command, tmp_path, directory, workers=2)
    found = Counter(row["Label"] for row in rows())
    assert found["/users/{user} [GET]"] == found["/users/{user} [GET] ttfb"] == answered
    assert found["unmatched 4xx"] == found["unmatched"] == 1
    pids = {int(row["PID"]) for row in rows()}
    assert len(pids) == 2
    assert master not in pids
    assert all(is_published(path.name) for path in directory.rglob("*"))


@pytest.mark.parametrize("chunks", [[b"hello"], [b"he", b"llo"], []])
def test_a_server_may_iterate_over_a_sized_body_twice(
    directory: Path, counts: Counts, chunks: list[bytes]
) -> None:
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return chunks

    body: Any = _timed(app, directory)({"REQUEST_METHOD": "GET"}, lambda *_: None)
    sent = []
    for chunk in body:  # as gevent's server does, which asks for the length of all meanwhile
        assert sum(map(len, body)) == len(b"".join(chunks))
        sent.append(chunk)
    assert sent == chunks
    body.close()
    sync.stop()
    assert set(counts()) <= {"unmatched", "unmatched ttfb"}
