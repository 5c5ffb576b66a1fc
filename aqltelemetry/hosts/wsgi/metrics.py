"""Gives the metrics of a recording to Prometheus, as a part of a WSGI application."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from aqltelemetry.errors import OptionError, ViewsError
from aqltelemetry.hosts.kinds import WSGI, check_kind
from aqltelemetry.hosts.views_process import ViewsProcess, metrics
from aqltelemetry.hosts.wsgi.middleware import TelemetryMiddleware
from aqltelemetry.hosts.wsgi.routes import ROUTED
from aqltelemetry.recording.recorder import is_on

if TYPE_CHECKING:
    from aqltelemetry.hosts.wsgi.request_record import Application, Environ, StartResponse

_WAIT_S = 9.0  # Prometheus waits for 10 s.


class TelemetryMetrics:
    """A WSGI application that answers the scrapes of Prometheus at one path, around another one.

        app = TelemetryMetrics(TelemetryMiddleware(app, "_monitoring"))

    With Flask, `app.wsgi_app = TelemetryMetrics(TelemetryMiddleware(app.wsgi_app))` does the same
    and keeps `app` a `Flask`. Without an application, each path is answered, for a dispatcher:
    `DispatcherMiddleware(app, {"/metrics": TelemetryMetrics()})`.

    Each scrape has the metrics of all workers that record into the directory, whichever of them
    answers. **Everybody who can reach the path sees all labels**: let the proxy in front of the
    service refuse the path, or wrap this into the authentication of the service.

    Reading and counting are done by another process of lower priority, which runs while it is
    scraped; it needs the packages of `aqltelemetry[prometheus]`. The service passes on bytes. A
    thread or worker waits for at most 9 s, then the answer is 503: the first scrape starts the
    process.

    Parameters:
        app: The WSGI application that answers all other paths; None if there is none.
        path: The path that is scraped.
        monitoring_dir: The directory to read; by default the one that this process records into.
        buckets: The upper bounds of the buckets of durations, in seconds; by default 0.001 to 10.

    Raises:
        OptionError: For a path that does not begin with a slash, wrong buckets, or a wrong
            directory.
        WrongApplicationError: For an ASGI or aiohttp application.
    """

    def __init__(
        self,
        app: Application | None = None,
        path: str = "/metrics",
        monitoring_dir: str | os.PathLike[str] | None = None,
        buckets: Sequence[float] | None = None,
    ) -> None:
        if app is not None:
            check_kind(app, WSGI)
        if not path.startswith("/"):
            raise OptionError("path", path, "must begin with a slash")
        self.app = app
        self._path = path
        self._process = ViewsProcess(monitoring_dir, metrics(buckets))

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a scrape, or pass the request on to the application."""
        if self.app is not None and environ.get("PATH_INFO") != self._path:
            return self.app(environ, start_response)
        # So that a middleware around this one records the path rather than `unmatched`.
        environ[ROUTED] = lambda: self._path
        if environ["REQUEST_METHOD"] != "GET":
            return _answer_text(
                start_response, HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered"
            )
        if isinstance(self.app, TelemetryMiddleware) and not is_on():
            # The recording of a process starts with its first request, which this may be.
            self.app.start_recording()
        accept = environ.get("HTTP_ACCEPT", "*/*")
        try:
            answer = self._process.get_blocking("/metrics", accept, _WAIT_S)
        except ViewsError as exc:
            return _answer_text(start_response, HTTPStatus.SERVICE_UNAVAILABLE, str(exc))
        return _answer(start_response, HTTPStatus(answer.status), answer.headers, answer.body)


def _answer_text(start_response: StartResponse, status: HTTPStatus, text: str) -> Iterable[bytes]:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return _answer(start_response, status, headers, f"{text}\n".encode())


def _answer(
    start_response: StartResponse, status: HTTPStatus, headers: Mapping[str, str], body: bytes
) -> Iterable[bytes]:
    kept = [(name, text) for name, text in headers.items() if name.lower() != "content-length"]
    start_response(f"{status} {status.phrase}", [*kept, ("Content-Length", str(len(body)))])
    return [body]
