"""Services on many servers, each served bare and recorded, and what was seen of both.

A service is an application of a framework on a server. It is run three times: bare, with the
one line of aqltelemetry in its program, and below `aqltelemetry run`; each time it gets the same
requests and is then asked to stop.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import psutil

from ports import free_port
from service_programs import AIOHTTP, ASGI, WSGI

BARE, LINE, RUN = "bare", "one line", "aqltelemetry run"
WAYS = (LINE, RUN)
"""How a service is recorded."""
_TIMEOUT_S = 60
_IDLE_S = 0.2
_CLIENTS = 4
_TIMES = int(os.environ.get("TIMES", "2"))
"""How often each request is sent; `make services` sends it more often."""
_IDS = ("7", "42", "caf%C3%A9", "a%20b", "api", "users", "7.5", "8")
_LINES = {
    "asgi": "from aqltelemetry.asgi import TelemetryMiddleware\napp = TelemetryMiddleware(app)\n",
    "wsgi": "from aqltelemetry.wsgi import TelemetryMiddleware\napp = TelemetryMiddleware(app)\n",
    "aiohttp": "from aqltelemetry.aiohttp import setup\nsetup(app)\n",
    "Flask": "from aqltelemetry.wsgi import TelemetryMiddleware\n"
    "app.wsgi_app = TelemetryMiddleware(app.wsgi_app)\n",
}
_AIOHTTP_MAIN = """
if __name__ == "__main__":
    import sys
    {loop}
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, loop={make})
"""
_MAINS = {
    "aiohttp": _AIOHTTP_MAIN.format(loop="", make="None"),
    "aiohttp uvloop": _AIOHTTP_MAIN.format(loop="import uvloop", make="uvloop.new_event_loop()"),
    "wsgiref": """
if __name__ == "__main__":
    import sys
    from wsgiref.simple_server import WSGIRequestHandler, make_server
    WSGIRequestHandler.log_message = lambda *args: None
    make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
""",
    "waitress": """
if __name__ == "__main__":
    import sys
    import waitress
    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]))
""",
    "gevent": """
if __name__ == "__main__":
    import sys
    from gevent.pywsgi import WSGIServer
    WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
""",
    "eventlet": """
if __name__ == "__main__":
    import sys
    import eventlet.wsgi
    eventlet.wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), app, log_output=False)
""",
}
_PATCHES = {
    "gevent": "import gevent.monkey\ngevent.monkey.patch_all()\n",
    "eventlet": "import eventlet\neventlet.monkey_patch()\n",
}


class Service(NamedTuple):
    """An application on a server.

    `command` is what Python gets, of which `{port}` is filled in; `stops_by` the signal that
    its users would send.
    """

    kind: str
    framework: str
    server: str
    command: Sequence[str]
    stops_by: signal.Signals = signal.SIGTERM

    @property
    def name(self) -> str:
        """What the service is called in the table."""
        return f"{self.framework} on {self.server}"


def _uvicorn(framework: str, loop: str) -> Service:
    command = ("-m", "uvicorn", "app:app", "--port", "{port}", "--loop", loop)
    return Service("asgi", framework, f"uvicorn, {loop}", [*command, "--log-level", "error"])


def _hypercorn(framework: str, worker: str) -> Service:
    command = ("-m", "hypercorn", "app:app", "--bind", "127.0.0.1:{port}", "-k", worker)
    return Service("asgi", framework, f"hypercorn, {worker}", command)


def _gunicorn(kind: str, framework: str, worker: str, *more: str) -> Service:
    command = ["-m", "gunicorn", "app:app", "--bind", "127.0.0.1:{port}", "-k", worker]
    command += ["--log-level", "critical", "--no-control-socket", *more]
    return Service(kind, framework, f"Gunicorn, {worker.rpartition('.')[2]}", command)


def _program(kind: str, framework: str, server: str, *, stops_by: signal.Signals) -> Service:
    return Service(kind, framework, server, ("app.py", "{port}"), stops_by)


SERVICES = (
    _program("aiohttp", "aiohttp", "aiohttp", stops_by=signal.SIGTERM),
    _program("aiohttp", "aiohttp", "aiohttp uvloop", stops_by=signal.SIGTERM),
    _gunicorn("aiohttp", "aiohttp", "aiohttp.GunicornWebWorker"),
    _gunicorn("aiohttp", "aiohttp", "aiohttp.GunicornUVLoopWebWorker"),
    _uvicorn("Starlette", "asyncio"),
    _uvicorn("Starlette", "uvloop"),
    _hypercorn("Starlette", "asyncio"),
    _hypercorn("Starlette", "uvloop"),
    _hypercorn("Starlette", "trio"),
    _gunicorn("asgi", "Starlette", "asgi"),
    _gunicorn("asgi", "Starlette", "uvicorn_worker.UvicornWorker"),
    *(_uvicorn(framework, "uvloop") for framework in ASGI if framework != "Starlette"),
    _hypercorn("FastAPI", "trio"),
    _hypercorn("Quart", "asyncio"),
    _gunicorn("wsgi", "Flask", "sync"),
    _gunicorn("wsgi", "Flask", "gthread", "--threads", "4"),
    _gunicorn("wsgi", "Flask", "gevent"),
    Service(
        "wsgi",
        "Flask",
        "flask run",
        ("-m", "flask", "--app", "app:app", "run", "--port", "{port}"),
        signal.SIGINT,
    ),
    _program("wsgi", "Flask", "waitress", stops_by=signal.SIGINT),
    _program("wsgi", "Flask", "gevent", stops_by=signal.SIGINT),
    _program("wsgi", "Flask", "eventlet", stops_by=signal.SIGINT),
    _program("wsgi", "Flask", "wsgiref", stops_by=signal.SIGINT),
    *(_gunicorn("wsgi", framework, "sync") for framework in WSGI if framework != "Flask"),
    *(
        _program("wsgi", framework, "waitress", stops_by=signal.SIGINT)
        for framework in WSGI
        if framework != "Flask"
    ),
)
"""All services of the table."""


Answer: TypeAlias = tuple[str, int, bytes, tuple[str, ...]]
"""Path, status, body, and the names of the headers."""


@dataclass(frozen=True)
class Seen:
    """What was seen of a service that was run once."""

    answers: Counter[Answer]
    exit_code: int
    tracebacks: int
    """The number of lines that the server wrote."""
    output: str


def requests() -> list[str]:
    """Return the paths that are requested, in the order of sending."""
    once = [
        *(f"/users/{each}" for each in _IDS),
        *(f"/api/users/{each}" for each in _IDS),
        *("/stream", "/fail", "/none", "/api/none/7"),
    ]
    return once * _TIMES


def expected() -> tuple[Counter[str], Counter[str]]:
    """Return how many durations there must be by label; and of those that may be, at most."""
    many = len(_IDS) * _TIMES
    wanted = Counter(
        {
            "/users/{id} [GET]": many,
            "/api/users/{id} [GET]": many,
            "/stream [GET]": _TIMES,
            "/fail [GET]": _TIMES,
            "/fail [GET] 5xx": _TIMES,
            "unmatched": 2 * _TIMES,
            "unmatched 4xx": 2 * _TIMES,
        }
    )
    kinds = ("4xx", "5xx")
    first = [label for label in wanted if not label.endswith(kinds)]
    return wanted, Counter({f"{label} ttfb": wanted[label] for label in first})


def program(service: Service, way: str) -> str:
    """Return the text of a service's program."""
    text = {"asgi": ASGI, "wsgi": WSGI, "aiohttp": AIOHTTP}[service.kind][service.framework]
    patch = _PATCHES.get(service.server, "") if "app.py" in service.command else ""
    line = _LINES.get(service.framework, _LINES[service.kind]) if way == LINE else ""
    main = _MAINS[service.server] if "app.py" in service.command else ""
    return patch + text + line + main


def run(service: Service, way: str, cwd: Path) -> Seen:
    """Run a service in a directory, recorded into `monitoring` there unless it is bare."""
    cwd.mkdir()
    (cwd / "app.py").write_text(program(service, way))
    port = free_port()
    command = [sys.executable, *(each.format(port=port) for each in service.command)]
    if way == RUN:
        command = [sys.executable, "-m", "aqltelemetry", "run", "--", *command]
    environ = {name: text for name, text in os.environ.items() if "AQLTELEMETRY" not in name}
    environ |= {"AQLTELEMETRY_DIR": str(cwd / "monitoring"), "PYTHONPATH": str(cwd)}
    with (cwd / "output").open("wb") as output:
        server = subprocess.Popen(command, cwd=cwd, env=environ, stdout=output, stderr=output)
        try:
            _wait_for(port, server)
            with ThreadPoolExecutor(_CLIENTS) as pool:
                answers = Counter(pool.map(lambda path: _ask(port, path), requests()))
            # wsgiref takes a KeyboardInterrupt for an error of the request that it still ends.
            time.sleep(_IDLE_S)
            server.send_signal(service.stops_by)
            code = server.wait(_TIMEOUT_S)
        finally:
            _kill(server)
    text = (cwd / "output").read_text(errors="replace")
    return Seen(answers, code, text.count("Traceback"), text)


def _kill(server: subprocess.Popen[bytes]) -> None:
    """Kill a server that hangs, with its children."""
    try:
        processes = psutil.Process(server.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        processes = []
    server.kill()
    server.wait()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        assert server.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not listen"
        try:
            socket.create_connection(("127.0.0.1", port), _TIMEOUT_S).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return


def _ask(port: int, path: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        names = tuple(sorted(name.lower() for name, _ in response.getheaders()))
        # Error pages may show the address, which is another one each time.
        body = response.read().replace(str(port).encode(), b"PORT")
        return path, response.status, body, names
    finally:
        connection.close()
