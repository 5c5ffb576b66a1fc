# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `request_record`."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from aqltelemetry.system.async_backend import coroutine_marks, is_cancellation
from aqltelemetry.hosts.asgi.routes import IN_DJANGO
from aqltelemetry.hosts.labels import CURRENT_ASGI_SCOPE, WSGI_MIDDLEWARE_EXISTS, EVENTS, RECORDED_BY, TEMPLATE, WEBSOCKET

from aqltelemetry.recording.cpu_time import StepMeter
from aqltelemetry.recording.last_words import say_exit

from aqltelemetry.hosts._request_record cimport Awaited, RequestRecord, Gauge, am_send_awaited, get, iterator_of
from aqltelemetry.recording._hot_path cimport is_recording, monotonic_ns
from aqltelemetry.recording._in_flight_slots cimport claim_slot, release_slot


cdef extern from "Python.h":
    ctypedef struct PyAsyncMethods:
        int (*am_send)(Awaited, PyObject*, PyObject**) noexcept
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
    bint PyDict_CheckExact(object thing)
    object PyLong_FromVoidPtr(void* pointer)
    object PyContextVar_Set(object variable, object value)


cdef long _made = 0
cdef list _asked = WSGI_MIDDLEWARE_EXISTS


@cython.final
cdef class AsgiRequests:
    """The requests of one middleware."""

    cdef object _labels
    cdef Gauge _in_flight
    cdef bint _with_ttfb, _with_cpu_time, _by_route
    cdef dict _known

    def __init__(self, labels, in_flight, with_ttfb, with_cpu_time=False):
        global _made
        _made += 1
        self._labels = labels
        self._by_route = labels.are_by_route
        self._in_flight = in_flight.gauge
        self._with_ttfb = with_ttfb
        self._with_cpu_time = with_cpu_time
        # By the id of a route: the route, since the id is unique only while it lives, and its
        # labels by method.
        self._known = {}

    def begin(self, scope, receive, send):
        """Return the record of a request; None if it is not recorded, or by another middleware."""
        cdef AsgiRequestRecord record
        kind = scope["type"]
        if not is_recording() or (kind != "http" and kind != "websocket"):
            return None
        # Of two nested middlewares, only the outer one records. With a single middleware the scope
        # gets no key, which could make its dictionary grow.
        if _made > 1:
            if get(scope, RECORDED_BY, self) is not self:
                return None
            scope[RECORDED_BY] = self
        self._in_flight.count += 1
        if _asked:
            PyContextVar_Set(CURRENT_ASGI_SCOPE, scope)
        record = AsgiRequestRecord.__new__(AsgiRequestRecord)
        record.kind = WEBSOCKET if kind == "websocket" else ""
        record._requests = self
        record._scope = scope
        record._receive = receive
        record._send = send
        if self._with_cpu_time:
            record.meter = StepMeter()
        record.started_ns = monotonic_ns()
        record.slot = claim_slot(
            get(scope, "method", "GET"), get(scope, "path", None), record.started_ns
        )
        return record

    cdef tuple _labels_of(self, AsgiRequestRecord record):
        if self._by_route and not record.kind and PyDict_CheckExact(record._scope):
            try:
                labels = self._labels_by_route(record)
                if labels is not None:
                    return labels
            except Exception:  # a scope of an unknown framework
                pass
        return self._learn(record)

    cdef tuple _labels_by_route(self, AsgiRequestRecord record):
        """Return the labels of the innermost route; None if it does not decide them alone."""
        scope = record._scope
        route = _deciding(<dict>scope)
        if route is None:
            return None
        key = PyLong_FromVoidPtr(<void*>route)
        known = self._known.get(key)
        if known is not None:
            labels = (<dict>known[1]).get(scope["method"])
            if labels is not None:
                return labels
        if not self._labels.keeps(scope):
            return None
        labels = self._learn(record)
        if known is None:
            known = self._keep(key, route)
        (<dict>known[1])[scope["method"]] = labels
        return labels

    cdef tuple _keep(self, object key, object route):
        known = (route, {})
        if len(self._known) < MOST_ROUTES:
            self._known[key] = known
        return known

    cdef tuple _learn(self, AsgiRequestRecord record):
        return tuple(self._labels.learn(record._scope, record.kind))


cdef enum:
    MOST_ROUTES = 1000


cdef object _deciding(dict scope):
    """Return the object that decides the template of a request, as `route_tree.deciding`.

    Return None where a mounted application or Litestar has stored its template.
    """
    if TEMPLATE in scope or "path_template" in scope:
        return None
    route = scope.get("route")
    fastapi = scope.get("fastapi")
    if fastapi is not None:
        context = fastapi.get("effective_route_context")
        if context is not None and (route is None or context.original_route is route):
            return context
    return scope.get("endpoint") if route is None else route


@cython.final
cdef class AsgiRequestRecord(RequestRecord):
    """One request, timed by the messages that its application receives and sends."""

    cdef AsgiRequests _requests
    cdef object _scope, _receive, _send
    cdef bint _is_complete, _is_accepted

    @property
    def receive(self):
        """The function by which the application receives; it notes if the client has gone."""
        cdef Receive receive = Receive.__new__(Receive)
        receive._request_record = self
        return receive

    @property
    def send(self):
        """The function by which the application sends; the request ends with its last message."""
        cdef Send send = Send.__new__(Send)
        send._request_record = self
        return send

    cdef int _note(self, message) except -1:
        """Note the state of the response after a message."""
        kind = message["type"]
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            self._begin(message)
        elif kind == "http.response.body" or kind == "http.response.pathsend":
            self.first_byte()
            self._is_complete = not get(message, "more_body", False)
        elif (
            kind == "websocket.accept"
            or kind == "websocket.close"
            or kind == "websocket.http.response.body"
        ):
            self._note_handshake(kind, message)
        return 0

    def fail(self, exc):
        """Note an exception of the application."""
        say_exit(exc)
        # A server cancels a request whose client has gone, and sends an error for others.
        if is_cancellation(exc):
            self.disconnected = True
        else:
            self.status = 500

    def leave(self):
        """Record the request when the application returns, unless it has ended before."""
        if _asked:
            # Without a token, which is valid only in the context where it was created.
            PyContextVar_Set(CURRENT_ASGI_SCOPE, None)
        if not (self.status or self._is_accepted):  # servers send an error instead
            self.status = 500
        self._record()
        self._requests._in_flight.count -= 1
        release_slot(self.slot)

    cdef int _record(self) except -1:
        if not self.ended:
            self.end(self._requests._labels_of(self), self._requests._with_ttfb)
        return 0

    cdef int _note_handshake(self, kind, message) except -1:
        if kind == "websocket.accept":
            self._is_accepted = True
            self.first_byte()
        elif kind == "websocket.http.response.body":
            self._is_complete = not get(message, "more_body", False)
        elif not (self._is_accepted or self.status):  # websocket.close
            self.status = 403
            self._is_complete = True
        return 0

    cdef int _begin(self, message) except -1:
        try:
            self.status = message["status"]
            if IN_DJANGO in self._scope:
                self._requests._labels.begin_response(self._scope)
            headers = get(message, "headers", ())
            if not isinstance(headers, (list, tuple)):
                # The server needs the iterator's items too.
                message["headers"] = headers = list(headers)
            for name, value in headers:
                if (
                    len(name) == 12
                    and name.lower() == b"content-type"
                    and value.startswith(b"text/event-stream")
                ):
                    self.kind = self.kind or EVENTS
        except Exception:  # the server reports a malformed message
            pass
        return 0


cdef dict _marks = coroutine_marks()


cdef object _mark(thing, name):
    """Return an attribute that marks a coroutine function; asgiref reads it."""
    if name in _marks:
        return _marks[name]
    raise AttributeError(f"{type(thing).__name__!r} object has no attribute {name!r}")


@cython.final
cdef class Receive:
    """Receives a message for the application."""

    cdef AsgiRequestRecord _request_record

    def __call__(self):
        cdef Receiving receiving = Receiving.__new__(Receiving)
        receiving._request_record = self._request_record
        receiving._inner = iterator_of(self._request_record._receive())
        return receiving

    def __getattr__(self, name):
        return _mark(self, name)


@cython.final
cdef class Send:
    """Sends a message of the application."""

    cdef AsgiRequestRecord _request_record

    def __call__(self, message):
        cdef Sending sending = Sending.__new__(Sending)
        self._request_record._note(message)
        sending._request_record = self._request_record
        sending._inner = iterator_of(self._request_record._send(message))
        return sending

    def __getattr__(self, name):
        return _mark(self, name)


@cython.final
cdef class Sending(Awaited):
    """A message that a server is sending."""

    cdef AsgiRequestRecord _request_record

    cdef int _returned(self, PyObject** result) except -1:
        # A background task may follow the response, which is not a part of the duration.
        if self._request_record._is_complete:
            self._request_record._record()
        return False

    cdef int _raised(self, object exc, PyObject** result) except -1:
        if isinstance(exc, OSError):  # servers raise it when the client has gone
            self._request_record.disconnected = True
        return False


@cython.final
cdef class Receiving(Awaited):
    """A message that the application is receiving."""

    cdef AsgiRequestRecord _request_record

    cdef int _returned(self, PyObject** result) except -1:
        cdef AsgiRequestRecord record = self._request_record
        kind = (<object>result[0])["type"]
        # Some servers send a disconnect as soon as they have the last message.
        if kind == "http.disconnect":
            if not record._is_complete:
                record.disconnected = True
        elif kind == "websocket.disconnect":
            if not (record._is_accepted or record.status):
                record.disconnected = True
        return False


(<PyTypeObject*>Sending).tp_as_async.am_send = am_send_awaited
(<PyTypeObject*>Receiving).tp_as_async.am_send = am_send_awaited
