# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `connections`."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from aqltelemetry.system.async_backend import coroutine_marks, is_cancellation
from aqltelemetry.hosts.asgi.routes import IN_DJANGO
from aqltelemetry.hosts.labels import ANSWERING, ASKED, EVENTS, RECORDED_BY, TEMPLATE, WEBSOCKET

from aqltelemetry.hosts._exchange cimport Awaited, Exchange, Gauge, am_send_awaited, get, iterator_of
from aqltelemetry.recording._hot_path cimport is_recording, monotonic_ns


cdef extern from "Python.h":
    ctypedef struct PyAsyncMethods:
        int (*am_send)(Awaited, PyObject*, PyObject**) noexcept
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
    bint PyDict_CheckExact(object thing)
    object PyLong_FromVoidPtr(void* pointer)
    object PyContextVar_Set(object variable, object value)


cdef long _made = 0
cdef list _asked = ASKED


@cython.final
cdef class Connections:
    """What the connections of an ASGI middleware have in common."""

    cdef object _labels
    cdef Gauge _in_flight
    cdef bint _with_ttfb, _by_route
    cdef dict _known

    def __init__(self, labels, in_flight, with_ttfb):
        global _made
        _made += 1
        self._labels = labels
        self._by_route = labels.are_by_route
        self._in_flight = in_flight.gauge
        self._with_ttfb = with_ttfb
        # By the number of an object, which is kept beside, that says the route: labels by method.
        self._known = {}

    def begin(self, scope, receive, send):
        """Begin a connection; None if it is not to be recorded, or by another middleware."""
        cdef Connection connection
        kind = scope["type"]
        if not is_recording() or (kind != "http" and kind != "websocket"):
            return None
        # Within another one of its kind, only the outer one records. A mark may have a scope
        # grow that else would not, so where there is one middleware there are none.
        if _made > 1:
            if get(scope, RECORDED_BY, self) is not self:
                return None
            scope[RECORDED_BY] = self
        self._in_flight.count += 1
        if _asked:
            PyContextVar_Set(ANSWERING, scope)
        connection = Connection.__new__(Connection)
        connection.kind = WEBSOCKET if kind == "websocket" else ""
        connection._connections = self
        connection._scope = scope
        connection._receive = receive
        connection._send = send
        connection.started_ns = monotonic_ns()
        return connection

    cdef tuple _labels_of(self, Connection connection):
        if self._by_route and not connection.kind and PyDict_CheckExact(connection._scope):
            try:
                labels = self._labels_by_route(connection)
                if labels is not None:
                    return labels
            except Exception:  # a scope of a framework that is not known
                pass
        return self._learn(connection)

    cdef tuple _labels_by_route(self, Connection connection):
        """Return the labels that the innermost route decides, or None if others do too."""
        scope = connection._scope
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
        labels = self._learn(connection)
        if known is None:
            known = self._keep(key, route)
        (<dict>known[1])[scope["method"]] = labels
        return labels

    cdef tuple _keep(self, object key, object route):
        known = (route, {})
        if len(self._known) < MOST_ROUTES:
            self._known[key] = known
        return known

    cdef tuple _learn(self, Connection connection):
        return tuple(self._labels.of(connection._scope, connection.kind))


cdef enum:
    MOST_ROUTES = 1000


cdef object _deciding(dict scope):
    """Return what alone may say which template a connection has; as `route_tree.deciding`.

    None where an application below said it, or as Litestar says it.
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
cdef class Connection(Exchange):
    """A connection, seen by what its ASGI application receives and sends."""

    cdef Connections _connections
    cdef object _scope, _receive, _send
    cdef bint _is_complete, _is_accepted

    @property
    def receive(self):
        """What the application receives by; it also notes that the client has gone."""
        cdef Receive receive = Receive.__new__(Receive)
        receive._connection = self
        return receive

    @property
    def send(self):
        """What the application sends by; the request ends with its last message."""
        cdef Send send = Send.__new__(Send)
        send._connection = self
        return send

    cdef int _note(self, message) except -1:
        """Note what a message says of the response."""
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
        """Note how the application failed."""
        # A server cancels what nobody waits for any more; all else it answers by an error.
        if is_cancellation(exc):
            self.disconnected = True
        else:
            self.status = 500

    def leave(self):
        """Record what became of it, if it has not ended before: the application has."""
        if _asked:
            # Not reset by a token, which another context than this would not have.
            PyContextVar_Set(ANSWERING, None)
        if not (self.status or self._is_accepted):  # which servers answer by an error
            self.status = 500
        self._record()
        self._connections._in_flight.count -= 1

    cdef int _record(self) except -1:
        if not self.ended:
            self.end(self._connections._labels_of(self), self._connections._with_ttfb)
        return 0

    cdef int _note_handshake(self, kind, message) except -1:
        if kind == "websocket.accept":
            self._is_accepted = True
            self.first_byte()
        elif kind == "websocket.http.response.body":
            self._is_complete = not get(message, "more_body", False)
        elif not (self._is_accepted or self.status):  # closed
            self.status = 403
            self._is_complete = True
        return 0

    cdef int _begin(self, message) except -1:
        try:
            self.status = message["status"]
            if IN_DJANGO in self._scope:
                self._connections._labels.begin_response(self._scope)
            headers = get(message, "headers", ())
            if not isinstance(headers, (list, tuple)):
                # An iterator, which the server needs too.
                message["headers"] = headers = list(headers)
            for name, value in headers:
                if (
                    len(name) == 12
                    and name.lower() == b"content-type"
                    and value.startswith(b"text/event-stream")
                ):
                    self.kind = self.kind or EVENTS
        except Exception:  # the server says what is wrong with them
            pass
        return 0


cdef dict _marks = coroutine_marks()


cdef object _mark(thing, name):
    """Return an attribute by which a coroutine function is recognised; asgiref asks for it."""
    if name in _marks:
        return _marks[name]
    raise AttributeError(f"{type(thing).__name__!r} object has no attribute {name!r}")


@cython.final
cdef class Receive:
    """Receives as the application would."""

    cdef Connection _connection

    def __call__(self):
        cdef Receiving receiving = Receiving.__new__(Receiving)
        receiving._connection = self._connection
        receiving._inner = iterator_of(self._connection._receive())
        return receiving

    def __getattr__(self, name):
        return _mark(self, name)


@cython.final
cdef class Send:
    """Sends as the application would."""

    cdef Connection _connection

    def __call__(self, message):
        cdef Sending sending = Sending.__new__(Sending)
        self._connection._note(message)
        sending._connection = self._connection
        sending._inner = iterator_of(self._connection._send(message))
        return sending

    def __getattr__(self, name):
        return _mark(self, name)


@cython.final
cdef class Sending(Awaited):
    """What a server is sending."""

    cdef Connection _connection

    cdef int _returned(self, PyObject** result) except -1:
        # A background task may follow the response: it is not the client's time.
        if self._connection._is_complete:
            self._connection._record()
        return False

    cdef int _raised(self, object exc, PyObject** result) except -1:
        if isinstance(exc, OSError):  # what a server raises when the client has gone
            self._connection.disconnected = True
        return False


@cython.final
cdef class Receiving(Awaited):
    """What a server is to receive."""

    cdef Connection _connection

    cdef int _returned(self, PyObject** result) except -1:
        cdef Connection connection = self._connection
        kind = (<object>result[0])["type"]
        # Some servers send it as soon as the last message has reached them.
        if kind == "http.disconnect":
            if not connection._is_complete:
                connection.disconnected = True
        elif kind == "websocket.disconnect":
            if not (connection._is_accepted or connection.status):
                connection.disconnected = True
        return False


(<PyTypeObject*>Sending).tp_as_async.am_send = am_send_awaited
(<PyTypeObject*>Receiving).tp_as_async.am_send = am_send_awaited
