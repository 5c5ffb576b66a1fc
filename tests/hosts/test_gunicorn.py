"""Recording by Gunicorn's configuration alone, in real workers of every kind."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from aqltelemetry import gunicorn
from aqltelemetry.hosts import gunicorn as hooks
from published_names import is_published
from servers import PROGRAMS, WORKERS, run_gunicorn

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]

_SET_UP_ITSELF = {
    "flask": """
from aqltelemetry.wsgi import TelemetryMiddleware
app.wsgi_app = TelemetryMiddleware(app.wsgi_app)
""",
    "starlette": """
from aqltelemetry.asgi import TelemetryMiddleware
app.add_middleware(TelemetryMiddleware)
""",
    "aiohttp": """
from aqltelemetry.aiohttp import setup
setup(app)
""",
}


def _run(
    tmp_path: Path, directory: Path, program: str, *arguments: str, config: str | None = None
) -> int:
    (tmp_path / "app.py").write_text(program)
    configuration = "python:aqltelemetry.gunicorn"
    if config is not None:
        (tmp_path / "conf.py").write_text(config)
        configuration = "conf.py"
    environ = {**os.environ, "AQLTELEMETRY_DIR": str(directory)}
    command = ("--config", configuration, "--workers", "2", *arguments)
    _, answered = run_gunicorn(command, tmp_path, directory, workers=2, environ=environ)
    return answered


def _check(rows: Rows, directory: Path, answered: int) -> None:
    found = Counter(row["Label"] for row in rows())
    assert found["/users/{user} [GET]"] == answered
    assert found["unmatched"] == 1
    assert len({row["PID"] for row in rows("runtime")}) == 2
    assert all(is_published(path.name) for path in directory.rglob("*"))


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize(("worker", "kind"), WORKERS.items(), ids=WORKERS)
def test_each_request_is_one_observation(
    tmp_path: Path,
    directory: Path,
    rows: Rows,
    worker: str,
    kind: str,
    preload: tuple[str, ...],
) -> None:
    arguments = ("app:app", "--worker-class", worker, *preload)
    answered = _run(tmp_path, directory, PROGRAMS[kind], *arguments)
    _check(rows, directory, answered)


@pytest.mark.parametrize("worker", ["sync", "aiohttp.GunicornWebWorker", "asgi"])
def test_an_application_that_records_itself_is_not_counted_twice(
    tmp_path: Path, directory: Path, rows: Rows, worker: str
) -> None:
    kind = WORKERS[worker]
    program = PROGRAMS[kind] + _SET_UP_ITSELF[kind]
    answered = _run(tmp_path, directory, program, "app:app", "--worker-class", worker)
    _check(rows, directory, answered)


def test_an_application_made_by_a_coroutine_is_recorded(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    arguments = ("app:create_app", "--worker-class", "aiohttp.GunicornWebWorker")
    answered = _run(tmp_path, directory, PROGRAMS["aiohttp"], *arguments)
    _check(rows, directory, answered)


_REQUEST_HOOKS = "post_worker_init, pre_request, post_request, worker_exit"


@pytest.mark.parametrize("hooks", ["post_worker_init, worker_exit", _REQUEST_HOOKS])
def test_the_hooks_work_in_a_user_defined_configuration(
    tmp_path: Path, directory: Path, rows: Rows, hooks: str
) -> None:
    """The hooks of requests are accepted too, and record nothing."""
    config = f"from aqltelemetry.gunicorn import {hooks}\n"
    answered = _run(tmp_path, directory, PROGRAMS["flask"], "app:app", config=config)
    _check(rows, directory, answered)


def test_a_configuration_that_has_hooks_is_extended(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    """The hooks of the configuration run first; one of them is given by its name."""
    (tmp_path / "hooks.py").write_text("""
from aqltelemetry import record
def mark(server, worker):
    record("worker exit", 1)
""")
    config = """
from aqltelemetry import record
from aqltelemetry.gunicorn import extend
def post_worker_init(worker):
    inner = worker.wsgi
    def slower(environ, start_response):
        record("inner", 1)  # so what is recorded is what this hook made
        return inner(environ, start_response)
    worker.wsgi = slower
worker_exit = "hooks.mark"
extend(globals())
extend(globals())
"""
    answered = _run(tmp_path, directory, PROGRAMS["flask"], "app:app", config=config)
    _check(rows, directory, answered)
    custom = Counter(row["Label"] for row in rows("custom"))
    assert custom == {"worker exit": 2, "inner": answered + 1}


@pytest.mark.parametrize("location", ["conf.py", "file:conf.py", "python:conf", None])
def test_options_are_variables_of_the_configuration(
    tmp_path: Path, directory: Path, rows: Rows, location: str | None
) -> None:
    """They take precedence over the environment, in each form of a configuration."""
    config = f"""
from pathlib import Path
from aqltelemetry.gunicorn import post_worker_init, worker_exit
aqltelemetry_dir = Path({str(directory)!r})
aqltelemetry_with_runtime = False
aqltelemetry_with_ttfb = False
"""
    (tmp_path / "app.py").write_text(PROGRAMS["flask"])
    (tmp_path / ("conf.py" if location else "gunicorn.conf.py")).write_text(config)
    environ = {**os.environ, "AQLTELEMETRY_DIR": str(tmp_path / "other")}
    command = (*(("--config", location) if location else ()), "--workers", "2", "app:app")
    _, answered = run_gunicorn(command, tmp_path, directory, workers=2, environ=environ)
    assert Counter(row["Label"] for row in rows()) == {
        "/users/{user} [GET]": answered,
        "unmatched": 1,
        "unmatched 4xx": 1,
    }
    assert {row["Label"] for row in rows("runtime")} == {"requests in flight"}
    assert not (tmp_path / "other").exists()


_TEMPLATE = """
def template(request):
    path = getattr(request, "path", None) or request.get("path") or request["PATH_INFO"]
    return "/chosen" if path.startswith("/users/") else None
"""


@pytest.mark.parametrize("worker", ["sync", "aiohttp.GunicornWebWorker", "asgi"])
def test_a_template_of_the_configuration_names_the_routes(
    tmp_path: Path, directory: Path, rows: Rows, worker: str
) -> None:
    (tmp_path / "routes.py").write_text(_TEMPLATE)
    config = """
from aqltelemetry.gunicorn import post_worker_init, worker_exit
aqltelemetry_template = "routes:template"
"""
    arguments = ("app:app", "--worker-class", worker)
    answered = _run(tmp_path, directory, PROGRAMS[WORKERS[worker]], *arguments, config=config)
    found = Counter(row["Label"] for row in rows())
    assert found["/chosen [GET]"] == answered
    assert found["unmatched"] == 1


def test_a_configuration_of_hooks_for_requests_works(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    """As QuantumLeap does it: samples start and end in Gunicorn's own hooks."""
    config = """
from aqltelemetry import sync
def post_worker_init(worker):
    sync.start()
def pre_request(worker, req):
    req.duration_sample_id = sync.start_duration_sample()
def post_request(worker, req, environ, resp):
    label = "/users/{user} [GET]" if req.path.startswith("/users/") else "unmatched"
    sync.stop_duration_sample(label, req.duration_sample_id)
def worker_exit(server, worker):
    sync.stop()
"""
    answered = _run(tmp_path, directory, PROGRAMS["flask"], "app:app", config=config)
    _check(rows, directory, answered)


def test_gevents_workers_without_uvloop_serve_unrecorded_and_say_why(
    tmp_path: Path, directory: Path
) -> None:
    (tmp_path / "app.py").write_text(PROGRAMS["flask"])
    log = tmp_path / "log"
    config = f"""
import logging, sys
sys.modules["uvloop"] = None
logging.basicConfig(filename={str(log)!r})
from aqltelemetry.gunicorn import post_worker_init, worker_exit
"""
    (tmp_path / "conf.py").write_text(config)
    arguments = ("--config", "conf.py", "--worker-class", "gevent", "--workers", "2", "app:app")
    environ = {**os.environ, "AQLTELEMETRY_DIR": str(directory)}
    _, answered = run_gunicorn(arguments, tmp_path, directory, workers=0, environ=environ)
    assert answered == 50
    assert (
        "the application runs unrecorded: with gevent or eventlet, recording needs uvloop"
        in log.read_text()
    )
    assert not directory.exists()


def test_a_worker_boots_whatever_fails_in_its_telemetry(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Worker:
        cfg = SimpleNamespace(config="python:aqltelemetry.gunicorn")
        wsgi: object = staticmethod(lambda environ, start_response: [])

    monkeypatch.setattr(hooks, "_wrap", _fail)
    worker = Worker()
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        gunicorn.post_worker_init(worker)
        gunicorn.worker_exit(None, worker)
    assert worker.wsgi is Worker.wsgi
    assert "the worker runs unrecorded: RuntimeError('no way')" in caplog.text


def _fail(worker: object, options: object) -> None:
    raise RuntimeError("no way")


def test_a_wrong_option_of_a_configuration_stops_gunicorn_before_it_serves(tmp_path: Path) -> None:
    """Whether it calls `extend` or imports the hooks."""
    (tmp_path / "app.py").write_text(PROGRAMS["flask"])
    extended = "from aqltelemetry.gunicorn import extend\nextend(globals())\n"
    by_name = "from aqltelemetry.gunicorn import post_worker_init\n"
    for lines in (extended, by_name):
        (tmp_path / "conf.py").write_text("aqltelemetry_intervall_s = 1\n" + lines)
        command = [sys.executable, "-m", "gunicorn", "--config", "conf.py", "app:app"]
        command += ["--bind", "127.0.0.1:0"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode != 0
        assert "intervall_s=1: unknown; there are" in done.stderr + done.stdout


def test_the_added_hooks_run_though_those_of_a_configuration_fail() -> None:
    happened: list[str] = []

    def theirs(server: object, worker: object) -> None:
        happened.append("theirs")
        raise RuntimeError

    hook = hooks._in_turn(theirs, lambda *_: happened.append("ours"))
    with pytest.raises(RuntimeError):
        hook(None, None)
    assert happened == ["theirs", "ours"]


def test_the_configuration_sets_nothing_but_hooks() -> None:
    """Gunicorn would use each name that is one of its settings."""
    known = importlib.import_module("gunicorn.config").Config().settings
    assert set(vars(gunicorn)) & set(known) == {*gunicorn.__all__} - {"extend"}


async def test_a_wrapped_application_keeps_its_kind() -> None:
    app = web.Application()
    assert hooks._aiohttp(app, {}) is app

    async def make() -> web.Application:
        return web.Application()

    assert isinstance(await hooks._aiohttp(make, {})(), web.Application)
