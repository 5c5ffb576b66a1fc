"""Times a request to a WSGI application, and records how it ends.

The compiled twin, `_request_record.pyx`, does the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

from aqltelemetry.hosts.labels import (
    CURRENT_ASGI_SCOPE,
    EVENTS,
    PLACE,
    RECORDED_BY,
    RequestLabels,
    route_reporter,
)
from aqltelemetry.hosts.request_record import InFlight, RequestRecord
from aqltelemetry.hosts.wsgi.routes import WsgiRoutes
from aqltelemetry.recording.cpu_time import CpuSpan
from aqltelemetry.recording.in_flight import claim, release
from aqltelemetry.recording.last_words import say_exit
from aqltelemetry.recording.recorder import is_on
from aqltelemetry.system.clock import monotonic_ns

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
Template: TypeAlias = Callable[[Environ], str | None]

_FAILED = 500
_MOST_RULES = 1000
_TYPE, _LENGTH = "content-type", "content-length"
_TYPE_CHARS, _LENGTH_CHARS = len(_TYPE), len(_LENGTH)


class RecordedApplication:
    """A WSGI application that wraps another one and records its requests.

    A subclass overrides `get_ready`, which is called before a request while `is_ready` is false.

    Parameters:
        app: The application to wrap.
        template: Returns the template of a request by its environment, or None; never raises.
        in_flight: Counts the requests in progress.
        with_ttfb: Whether to record the time to the first byte.
        by_rule: Whether the rule of a request to Flask alone decides its template, which is then
            kept for each rule.
        with_cpu_time: Whether to record the CPU time.
    """

    is_ready = False
    has_looked = False
    has_mounts = False
    routes: WsgiRoutes | None = None
    """The routes of the application; None where `template` does not use them."""

    def __init__(  # noqa: PLR0913 - by name, except for the first
        self,
        app: Application,
        template: Template,
        in_flight: InFlight,
        *,
        with_ttfb: bool,
        by_rule: bool = False,
        with_cpu_time: bool = False,
    ) -> None:
        self._by_rule = by_rule
        # By the id of a rule and the prefix under which its application is mounted: the template,
        # and the rule, since the id is unique only while the rule lives.
        self._known: dict[tuple[int, str], tuple[object, str]] = {}
        self.app = app
        self.template = template
        self.labels = RequestLabels()
        self.in_flight = in_flight
        self.with_ttfb = with_ttfb
        self.with_cpu_time = with_cpu_time

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request; what the application raises passes through."""
        outer = CURRENT_ASGI_SCOPE.get()
        if outer is not None:
            self.look()
            if self.has_mounts and self.routes is not None:
                environ[PLACE] = self.routes.find_safely(environ)
            return self.app(environ, route_reporter(self.template, outer, environ, start_response))
        if not self.is_ready:
            self.look()
            self.get_ready()
        # Of two nested middlewares, only the outer one records.
        if not is_on() or environ.setdefault(RECORDED_BY, self) is not self:
            return self.app(environ, start_response)
        if self.has_mounts and self.routes is not None:
            environ[PLACE] = self.routes.find_safely(environ)
        record = WsgiRequestRecord(self, environ, start_response)
        try:
            return record.wrap_body(self.app(environ, record.start))
        except BaseException:
            record.fail()
            raise

    def look(self) -> None:
        """Read the routes of the application, before the first request."""
        if not self.has_looked and self.routes is not None:
            self.routes.look()
            self.has_mounts = self.routes.has_any_mounts
        self.has_looked = True

    def template_of(self, environ: Environ) -> str | None:
        """Return the template of a request, which is kept for each rule of Flask."""
        rule = self._rule(environ)
        if rule is None:
            return self.template(environ)
        # An application may be mounted twice.
        key = (id(rule), environ[PLACE].prefix if self.has_mounts else "")
        known = self._known.get(key)
        if known is not None:
            return known[1]
        template = self.template(environ)
        if template is not None and len(self._known) < _MOST_RULES:
            self._known[key] = (rule, template)
        return template

    def _rule(self, environ: Environ) -> object | None:
        request = environ.get("werkzeug.request")
        if request is None or not self._by_rule:
            return None
        try:
            return request.url_rule  # type: ignore[no-any-return]
        except Exception:  # noqa: BLE001 - the request of another framework, or a broken one
            return None

    def get_ready(self) -> None:
        """Prepare the recording in this process."""
        self.is_ready = True


class WsgiRequestRecord(RequestRecord):
    """One request, its `start_response`, and the body of its response, which ends when closed.

    It is a single object, since the creation of each object takes time in each request.
    """

    # On the class, as those of `RequestRecord`.
    _answered = _exhausted = False
    _body: Iterable[bytes] = ()
    _given_bytes = 0
    _length_bytes: str | None = None
    _template: str | None = None

    def __init__(
        self, application: RecordedApplication, environ: Environ, start_response: StartResponse
    ) -> None:
        self.started_ns = monotonic_ns()
        if application.with_cpu_time:
            self.meter = CpuSpan()
        self._application = application
        self._environ = environ
        self._start_response = start_response
        application.in_flight.begin()
        self._slot = claim(
            environ.get("REQUEST_METHOD", "GET"), environ.get("PATH_INFO"), self.started_ns
        )

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Note the status and the headers of the response, and start it."""
        try:
            self.status = int(status.split(" ", 1)[0])
            self._note(headers)
        except Exception:  # noqa: BLE001, S110 - the server reports a malformed response
            pass
        # Flask forgets the route before the body is sent.
        self._template = self._application.template_of(self._environ)
        self._answered = True
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    def _note(self, headers: list[tuple[str, str]]) -> None:
        self.kind, self._length_bytes = "", None
        for name, value in headers:
            # The length is compared first, since most headers have another one.
            if len(name) == _TYPE_CHARS and name.lower() == _TYPE:
                self.kind = EVENTS if value.startswith("text/event-stream") else ""
            elif len(name) == _LENGTH_CHARS and name.lower() == _LENGTH:
                self._length_bytes = value

    def fail(self) -> None:
        """End by an exception; the server sends an error."""
        say_exit(sys.exc_info()[1])
        self.status = _FAILED
        self.done()

    def wrap_body(self, body: Iterable[Any]) -> Iterable[Any]:
        """Return the body for the server."""
        self._body = body
        if type(body) is not list:
            if type(body) in (bytes, str):
                return self._end_at_once(body)  # some servers send it, and some refuse it
            wrapper: Any = self._environ.get("wsgi.file_wrapper")
            if isinstance(wrapper, type):
                if isinstance(body, wrapper):
                    # The server sends the file by the kernel if it receives this object itself.
                    self.first_byte()
                    body.close = partial(self._close_file, getattr(body, "close", None))  # type: ignore[attr-defined]
                    return body
            elif wrapper is not None and hasattr(body, "fileno"):
                # uWSGI does not report when it has sent the file.
                return self._end_at_once(body)
        self._chunks: Iterator[Any] = iter(body)
        return SizedBody(self, body) if hasattr(body, "__len__") else self

    def _end_at_once(self, body: Iterable[Any]) -> Iterable[Any]:
        """End when the application returns, for a body that can't be wrapped."""
        self.first_byte()
        self.done()
        return body

    def _close_file(self, close: Callable[[], None] | None) -> None:
        try:
            if close is not None:
                close()
        finally:
            self.done()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._exhausted = True
            raise
        except SystemExit:
            raise
        except BaseException:
            self.status = _FAILED
            self._exhausted = True
            raise
        # Any other chunk is an error of the application, which each server handles differently.
        if isinstance(chunk, bytes) and chunk:
            if not self.first_ns:
                self.first_ns = monotonic_ns()
            self._given_bytes += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the body; servers do so when it is sent, or can't be sent any more."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self.disconnected = not (self._exhausted or self._is_quit_after_all())
            self.done()

    def _is_quit_after_all(self) -> bool:
        # A worker may be stopped between the last chunk and the end.
        is_quit = isinstance(sys.exc_info()[1], SystemExit)
        return is_quit and self._length_bytes == str(self._given_bytes)

    def done(self) -> None:
        """Record the request, once."""
        if self.ended:
            return
        application, environ = self._application, self._environ
        if not self._answered:  # the application has raised before
            self._template = application.template(environ)
        method = environ.get("REQUEST_METHOD", "GET")
        self.end(application.labels.of(self._template, method, self.kind), application.with_ttfb)
        application.in_flight.end()
        release(self._slot)


class SizedBody:
    """The body of a response whose number of chunks is known.

    Servers derive Content-Length from a single chunk, and keep the connection open.
    """

    def __init__(self, record: WsgiRequestRecord, body: Iterable[bytes]) -> None:
        self._record = record
        self._body = body

    _is_iterated = False

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[bytes]:
        # gevent's server iterates once more for the whole length, while it sends the body.
        if self._is_iterated:
            return iter(self._body)
        self._is_iterated = True
        return self._record

    def close(self) -> None:
        """Close the body; servers do so when it is sent, or can't be sent any more."""
        self._record.close()
