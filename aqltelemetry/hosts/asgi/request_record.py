"""Times a request to an ASGI application, and records how it ends.

The compiled twin, `_request_record.pyx`, does the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from operator import index
from typing import Any, TypeAlias

from aqltelemetry.hosts.asgi.route_tree import deciding
from aqltelemetry.hosts.asgi.routes import IN_DJANGO, AsgiRoutes, django_path
from aqltelemetry.hosts.labels import (
    CURRENT_ASGI_SCOPE,
    EVENTS,
    RECORDED_BY,
    TEMPLATE,
    WEBSOCKET,
    WSGI_MIDDLEWARE_EXISTS,
    Labels,
    RequestLabels,
    safe_template,
)
from aqltelemetry.hosts.request_record import InFlight, RequestRecord
from aqltelemetry.hosts.routes import django_template
from aqltelemetry.recording.cpu_time import StepMeter
from aqltelemetry.recording.in_flight import claim, release
from aqltelemetry.recording.last_words import say_exit
from aqltelemetry.recording.recorder import is_on
from aqltelemetry.system.async_backend import is_cancellation
from aqltelemetry.system.clock import monotonic_ns

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Template: TypeAlias = Callable[[Scope], str | None]

_MOST_ROUTES = 1000
_TYPE_CHARS = len(b"content-type")
_FAILED = 500
# The status that servers send if an application closes a websocket before it accepts it.
_REFUSED = 403
_MAY_BE_LAST = ("http.response.body", "http.response.pathsend")
_STARTS = ("http.response.start", "websocket.http.response.start")
_HANDSHAKE = ("websocket.accept", "websocket.close", "websocket.http.response.body")


class ScopeLabels:
    """Names the series of requests by their scopes.

    Parameters:
        template: The user's function that names the route of a request; None, or a function
            that returns nothing, means the framework's route.
    """

    def __init__(self, template: Template | None = None) -> None:
        self._labels = RequestLabels()
        self._routes = AsgiRoutes()
        self._own_template = template
        self._template = safe_template(self._find)
        self.are_by_route = template is None
        # By the id of a route, which is kept with its labels, since the id is unique only while
        # the route lives; and by method.
        self._by_route: dict[tuple[int, str], tuple[object, Labels]] = {}

    def of(self, scope: Scope, kind: str) -> Labels:
        """Return the labels of a request that has ended."""
        if kind or not self.are_by_route or TEMPLATE in scope or "path_template" in scope:
            return self.learn(scope, kind)
        try:
            route = deciding(scope)
            key = (id(route), scope["method"])
            known = self._by_route.get(key)
            if known is not None:
                return known[1]
            labels = self.learn(scope, kind)
            if route is not None and len(self._by_route) < _MOST_ROUTES and self.keeps(scope):
                self._by_route[key] = (route, labels)
        except Exception:  # noqa: BLE001 - a scope of an unknown framework
            return self.learn(scope, kind)
        return labels

    def learn(self, scope: Scope, kind: str) -> Labels:
        """Return the labels of a request that has ended, without looking for kept ones."""
        return self._labels.of(self._template(scope), str(scope.get("method", "GET")), kind)

    def keeps(self, scope: Scope) -> bool:
        """Return whether all requests with this method and route have these labels.

        `route_tree.deciding` returns the route.
        """
        return self._labels.keeps(scope["method"]) and self._routes.decides(scope)

    @staticmethod
    def begin_response(scope: Scope) -> None:
        """Store the route of a request to Django, which drops it before the end."""
        if TEMPLATE not in scope:
            scope[TEMPLATE] = _django_template(scope) or ""

    def _find(self, scope: Scope) -> str | None:
        if self._own_template is not None:
            own = self._own_template(scope)
            if own:
                return own
        return self._routes.template(scope)


_django_template = safe_template(lambda scope: django_template(django_path(scope)))


class AsgiRequests:
    """The requests of one middleware."""

    _made = 0

    def __init__(
        self,
        labels: ScopeLabels,
        in_flight: InFlight,
        with_ttfb: bool,
        with_cpu_time: bool = False,
    ) -> None:
        AsgiRequests._made += 1
        self.labels = labels
        self.in_flight = in_flight
        self.with_ttfb = with_ttfb
        self.with_cpu_time = with_cpu_time

    def begin(self, scope: Scope, receive: Receive, send: Send) -> AsgiRequestRecord | None:
        """Return the record of a request; None if it is not recorded, or by another middleware."""
        if scope["type"] not in ("http", "websocket") or not is_on():
            return None
        # Of two nested middlewares, only the outer one records. With a single middleware the scope
        # gets no key, which could make its dictionary grow.
        if AsgiRequests._made > 1 and scope.setdefault(RECORDED_BY, self) is not self:
            return None
        self.in_flight.begin()
        if WSGI_MIDDLEWARE_EXISTS:
            CURRENT_ASGI_SCOPE.set(scope)
        record = AsgiRequestRecord(self, scope, receive, send)
        if self.with_cpu_time:
            record.meter = StepMeter()
        return record


class AsgiRequestRecord(RequestRecord):
    """One request, timed by the messages that its application receives and sends."""

    _is_complete = _is_accepted = False
    meter: StepMeter | None = None

    def __init__(self, requests: AsgiRequests, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self.kind = WEBSOCKET
        self._requests = requests
        self._scope = scope
        self._receive = receive
        self._send = send
        self.started_ns = monotonic_ns()
        self._slot = claim(scope.get("method", "GET"), scope.get("path"), self.started_ns)

    async def receive(self) -> Message:
        """Receive a message, and note if the client has gone."""
        message = await self._receive()
        kind = message["type"]
        # Some servers send a disconnect as soon as they have the last message.
        if (kind == "http.disconnect" and not self._is_complete) or (
            kind == "websocket.disconnect" and not (self._is_accepted or self.status)
        ):
            self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """Send a message; the request ends with the last one."""
        kind = message["type"]
        if kind in _STARTS:
            self._begin(message)
        elif kind in _MAY_BE_LAST:
            if not self.first_ns:
                self.first_ns = monotonic_ns()
            self._is_complete = not message.get("more_body", False)
        elif kind in _HANDSHAKE:
            self._note_handshake(kind, message)
        try:
            await self._send(message)
        except OSError:  # servers raise it when the client has gone
            self.disconnected = True
            raise
        # A background task may follow the response, which is not a part of the duration.
        if self._is_complete and not self.ended:
            self._record()

    def fail(self, exc: BaseException) -> None:
        """Note an exception of the application."""
        say_exit(exc)
        # A server cancels a request whose client has gone, and sends an error for others.
        if is_cancellation(exc):
            self.disconnected = True
        else:
            self.status = _FAILED

    def leave(self) -> None:
        """Record the request when the application returns, unless it has ended before."""
        if WSGI_MIDDLEWARE_EXISTS:
            # Without a token, which is valid only in the context where it was created.
            CURRENT_ASGI_SCOPE.set(None)
        if not (self.status or self._is_accepted):  # servers send an error instead
            self.status = _FAILED
        if not self.ended:
            self._record()
        self._requests.in_flight.end()
        release(self._slot)

    def _record(self) -> None:
        requests = self._requests
        labels = requests.labels.of(self._scope, self.kind)
        self.end(labels, requests.with_ttfb)

    def _note_handshake(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            self._is_accepted = True
            self.first_byte()
        elif kind == "websocket.http.response.body":
            self._is_complete = not message.get("more_body", False)
        elif not (self._is_accepted or self.status):  # websocket.close
            self.status = _REFUSED
            self._is_complete = True

    def _begin(self, message: Message) -> None:
        try:
            self.status = index(message["status"])
            if IN_DJANGO in self._scope:
                self._requests.labels.begin_response(self._scope)
            headers = message.get("headers", ())
            if not isinstance(headers, list | tuple):
                # The server needs the iterator's items too.
                message["headers"] = headers = list(headers)
            for name, value in headers:
                if (
                    len(name) == _TYPE_CHARS
                    and name.lower() == b"content-type"
                    and value.startswith(b"text/event-stream")
                ):
                    self.kind = self.kind or EVENTS
        except Exception:  # noqa: BLE001, S110 - the server reports a malformed message
            pass
