"""The WSGI host: `app = TelemetryMiddleware(app, "_monitoring")`.

For Flask, Django, and whatever else speaks WSGI, on any server and any thread.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, Unpack

from aqltelemetry import sync
from aqltelemetry.errors import AlreadyRunningError, TelemetryError
from aqltelemetry.exchange import (
    EVENTS,
    RECORDED_BY,
    Exchange,
    InFlight,
    RequestLabels,
    guarded,
)
from aqltelemetry.recorder import is_on
from aqltelemetry.settings import Options, settings

_log = logging.getLogger("aqltelemetry")
Environ: TypeAlias = dict[str, Any]
Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Template: TypeAlias = Callable[[Environ], str | None]

_FAILED = 500
# As Flask and Django write the variable parts of a route: <id>, <int:id>.
_VARIABLE = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")


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
        self._template = guarded(template or partial(_route, app))
        self._with_ttfb = with_ttfb
        self._labels = RequestLabels()
        self._in_flight = InFlight()
        options["samplers"] = (*options.get("samplers", ()), self._in_flight)
        self._directory = monitoring_dir
        self._options = options
        self._started_in = 0

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request; whatever the application raises passes through."""
        if self._started_in != os.getpid():
            self._start()
        # Within another one of its kind, only the outer one records.
        if not is_on() or environ.setdefault(RECORDED_BY, self) is not self:
            return self._app(environ, start_response)
        exchange = Exchange()
        self._in_flight.begin()
        templates: list[str | None] = []

        def watched_start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            _note(exchange, status, headers)
            # Flask forgets the route before the body is sent.
            templates.append(self._template(environ))
            return start_response(status, headers, *exc_info)

        def end() -> None:
            if not exchange.ended:
                # An application that raised may not have come as far as to answer.
                template = templates[-1] if templates else self._template(environ)
                label = self._labels.of(template, environ.get("REQUEST_METHOD", "GET"))
                exchange.end(label, with_ttfb=self._with_ttfb)
                self._in_flight.end()

        try:
            return _watched(self._app(environ, watched_start), environ, exchange, end)
        except BaseException:
            exchange.status = _FAILED
            end()
            raise

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


class _Body:
    """A response's body; ends its exchange when it is closed, or at its end."""

    def __init__(self, body: Iterable[bytes], exchange: Exchange, end: Callable[[], None]) -> None:
        self._body = body
        self._chunks = iter(body)
        self._exchange = exchange
        self._end = end
        self._exhausted = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._exhausted = True
            raise
        except BaseException:
            self._exchange.status = _FAILED
            self._exhausted = True
            raise
        if chunk:
            self._exchange.first_byte()
        return chunk

    def close(self) -> None:
        """Close the body, as servers do when they have sent it or can't any more."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._exchange.disconnected = not self._exhausted
            self._end()


def _watched(
    body: Iterable[bytes], environ: Environ, exchange: Exchange, end: Callable[[], None]
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


def _note(exchange: Exchange, status: str, headers: list[tuple[str, str]]) -> None:
    with suppress(Exception):  # the server tells what is wrong with them
        exchange.status = int(status.split(" ", 1)[0])
        for name, value in headers:
            if name.lower() == "content-type" and value.startswith("text/event-stream"):
                exchange.kind = EVENTS


def _route(app: object, environ: Environ) -> str | None:
    """Return the route of a request to Flask or Django; None where there is none."""
    if "werkzeug.request" in environ:
        return _flask_route(app, environ)
    urls = sys.modules.get("django.urls")
    if urls is None:
        return None
    try:
        route = urls.resolve(environ.get("PATH_INFO", "/")).route
    except Exception:  # noqa: BLE001 - Resolver404, or Django is there and not in use
        return None
    return "/" + _VARIABLE.sub(r"{\1}", route)


def _flask_route(app: object, environ: Environ) -> str | None:
    request = environ["werkzeug.request"]
    if request is not None:
        rule = getattr(request, "url_rule", None)
    else:
        # What raised out of Flask has had it forget the request; `app` may be its `wsgi_app`.
        url_map = getattr(getattr(app, "__self__", app), "url_map", None)
        if url_map is None:
            return None
        try:
            rule, _ = url_map.bind_to_environ(environ).match(return_rule=True)
        except Exception:  # noqa: BLE001 - NotFound and the like
            return None
    return None if rule is None else _VARIABLE.sub(r"{\1}", rule.rule)
