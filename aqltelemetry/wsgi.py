"""The WSGI host: `app = TelemetryMiddleware(app, "_monitoring")`.

For Flask, Django, and whatever else speaks WSGI, on any server and any thread.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, Unpack

from aqltelemetry import sync
from aqltelemetry.errors import AlreadyRunningError, TelemetryError
from aqltelemetry.exchange import (
    ANSWERING,
    EVENTS,
    RECORDED_BY,
    TEMPLATE,
    Exchange,
    InFlight,
    RequestLabels,
    guarded,
)
from aqltelemetry.recorder import is_on
from aqltelemetry.routes import wsgi_template
from aqltelemetry.settings import Options, settings

_log = logging.getLogger("aqltelemetry")
Environ: TypeAlias = dict[str, Any]
Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Template: TypeAlias = Callable[[Environ], str | None]

_FAILED = 500


class TelemetryMiddleware:
    """Records each request of a WSGI application, by `aqltelemetry.sync`.

    Recording starts with a process's first request, so after any fork, and ends
    with the process. If a monitor runs there already, that one records. If the
    directory can't be used, an error is logged and the application runs
    unrecorded. A request lasts until the response's body is closed.

    For labels see `aqltelemetry.exchange`; `with_ttfb` says whether the time to the
    first byte is recorded too; `template` returns the route of a request, of its
    WSGI environment, where Flask's and Django's are not what is wanted; what it
    raises is logged, and the request unmatched. Raises OptionError.
    """

    def __init__(
        self,
        app: Application,
        monitoring_dir: str | os.PathLike[str] | None = None,
        *,
        with_ttfb: bool = True,
        template: Template | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings(monitoring_dir, options)
        self._app = app
        self._template = guarded(template or partial(wsgi_template, app=app))
        self._with_ttfb = with_ttfb
        self._labels = RequestLabels()
        self._in_flight = InFlight()
        options["samplers"] = (*options.get("samplers", ()), self._in_flight)
        self._directory = monitoring_dir
        self._options = options
        self._started_in = 0

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request; whatever the application raises passes through."""
        outer = ANSWERING.get()
        if outer is not None:
            return self._app(environ, self._telling(outer, environ, start_response))
        if self._started_in != os.getpid():
            self._start()
        # Within another one of its kind, only the outer one records.
        if not is_on() or environ.setdefault(RECORDED_BY, self) is not self:
            return self._app(environ, start_response)
        exchange = _Exchange()
        self._in_flight.begin()

        def watched_start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            _note(exchange, status, headers)
            # Flask forgets the route before the body is sent.
            exchange.template = self._template(environ)
            exchange.answered = True
            return start_response(status, headers, *exc_info)

        end = partial(self._end, exchange, environ)
        try:
            return _watched(self._app(environ, watched_start), environ, exchange, end)
        except BaseException:
            exchange.status = _FAILED
            end()
            raise

    def _end(self, exchange: _Exchange, environ: Environ) -> None:
        if not exchange.ended:
            if not exchange.answered:  # it raised before
                exchange.template = self._template(environ)
            method = environ.get("REQUEST_METHOD", "GET")
            labels = self._labels.of(exchange.template, method, exchange.kind)
            exchange.end(labels, self._with_ttfb)
            self._in_flight.end()

    def _telling(
        self,
        outer: MutableMapping[str, Any],
        environ: Environ,
        start_response: Callable[..., Any],
    ) -> Callable[..., Any]:
        """Have the ASGI request that this is a part of know the route."""

        def start(*arguments: Any) -> Any:
            template = self._template(environ)
            if template is not None:
                outer[TEMPLATE] = environ.get("SCRIPT_NAME", "") + template
            return start_response(*arguments)

        return start

    def _start(self) -> None:
        # Threads that come at once wait in `start`, where all but one are told that
        # it runs; a lock of our own could be held at a fork.
        try:
            sync.start(self._directory, **self._options)
        except AlreadyRunningError as exc:
            _log.info("requests are recorded by the running monitor, into %s", exc.directory)
        except (TelemetryError, OSError) as exc:
            _log.error("the application runs unrecorded: %s", exc)
        self._started_in = os.getpid()


class _Exchange(Exchange):
    template: str | None = None
    answered = False
    length_bytes: str | None = None


class _Body:
    """A response's body; ends its exchange when it is closed."""

    def __init__(self, body: Iterable[bytes], exchange: _Exchange, end: Callable[[], None]) -> None:
        self._body = body
        self._chunks = iter(body)
        self._exchange = exchange
        self._end = end
        self._exhausted = False
        self._given_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._exhausted = True
            raise
        except SystemExit:
            raise
        except BaseException:
            self._exchange.status = _FAILED
            self._exhausted = True
            raise
        if chunk:
            self._exchange.first_byte()
            self._given_bytes += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the body, as servers do when they have sent it or can't any more."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._exchange.disconnected = not (self._exhausted or self._is_quit_after_all())
            self._end()

    def _is_quit_after_all(self) -> bool:
        # A worker that is told to quit may be so between the last chunk and the end.
        is_quit = isinstance(sys.exc_info()[1], SystemExit)
        return is_quit and self._exchange.length_bytes == str(self._given_bytes)


def _watched(
    body: Iterable[bytes], environ: Environ, exchange: _Exchange, end: Callable[[], None]
) -> Iterable[bytes]:
    wrapper = environ.get("wsgi.file_wrapper")
    if not isinstance(wrapper, type) or not isinstance(body, wrapper):
        return _Body(body, exchange, end)
    # A server sends a file by the kernel, if it gets it as it is.
    exchange.first_byte()
    close = getattr(body, "close", None)

    def watched_close() -> None:
        try:
            if close is not None:
                close()
        finally:
            end()

    body.close = watched_close  # type: ignore[attr-defined]
    return body


def _note(exchange: _Exchange, status: str, headers: list[tuple[str, str]]) -> None:
    with suppress(Exception):  # the server tells what is wrong with them
        exchange.status = int(status.split(" ", 1)[0])
        is_stream = (_header(headers, "content-type") or "").startswith("text/event-stream")
        exchange.kind = EVENTS if is_stream else ""
        exchange.length_bytes = _header(headers, "content-length")


def _header(headers: list[tuple[str, str]], wanted: str) -> str | None:
    return next((value for name, value in headers if name.lower() == wanted), None)
