# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The usual way of a request, compiled; all that goes another way is left to the pure twins.

Those are in the modules of the hosts, and do the same by themselves where there is no
compiler.
"""

cimport cython
from cpython.exc cimport PyErr_ExceptionMatches, PyErr_Occurred
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t

import sys
from asyncio import CancelledError
from functools import partial

from aqltelemetry.entries import FINISHED, awaited
from aqltelemetry.request_labels import ANSWERING, ASKED, EVENTS, RECORDED_BY, TEMPLATE, WEBSOCKET

from aqltelemetry._hot_path cimport append, is_recording, monotonic_ns


cdef extern from "Python.h":
    cdef enum:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    ctypedef struct PyAsyncMethods:
        int (*am_send)(Awaited, PyObject*, PyObject**) except -1
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
        PyObject* (*tp_iternext)(Answer) except? NULL
    PyObject* PyIter_Next(object iterator) noexcept
    int PyObject_IsTrue(object thing) except -1
    int PyIter_Send(PyObject* iterator, PyObject* value, PyObject** result) noexcept
    int PyObject_SetAttr(object thing, object name, PyObject* value) except -1
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    bint PyCoro_CheckExact(object thing)
    bint PyDict_CheckExact(object thing)
    object PyLong_FromVoidPtr(void* pointer)
    object PyContextVar_Set(object variable, object value)


cdef int _raise() except -1:
    """Have Cython see the exception that a call of C left."""
    return -1


cdef object _taken(PyObject* new):
    """Return what a call of C returned as a reference of ours."""
    taken = <object>new
    Py_XDECREF(new)
    return taken


@cython.final
cdef class Gauge:
    """What was begun and has not ended; both may be told on any thread."""

    cdef int64_t _value

    def begin(self):
        """Count one more."""
        self._value += 1

    def end(self):
        """Count one less."""
        self._value -= 1

    @property
    def value(self):
        """How many there are."""
        return self._value


cdef enum:
    TOTAL
    FIRST_BYTE
    CLIENT_ERROR
    SERVER_ERROR
    DISCONNECT


cdef class Exchange:
    """One request and its response; begins when it is made."""

    cdef object kind
    cdef long status
    cdef bint disconnected, ended
    cdef int64_t started_ns, first_ns

    cdef int first_byte(self) except -1:
        """Note that the response's body begins now, if it has not before."""
        if not self.first_ns:
            self.first_ns = monotonic_ns()
        return 0

    cdef int end(self, tuple labels, bint with_ttfb) except -1:
        """Record the exchange, once, however often this is called."""
        cdef int64_t end_ns
        cdef int64_t duration_ns
        if self.ended:
            return 0
        self.ended = True
        end_ns = monotonic_ns()
        duration_ns = end_ns - self.started_ns
        append(labels[TOTAL], end_ns, duration_ns)
        if self.first_ns and with_ttfb:
            append(labels[FIRST_BYTE], self.first_ns, self.first_ns - self.started_ns)
        if self.disconnected:
            append(labels[DISCONNECT], end_ns, duration_ns)
        elif self.status >= 400:
            append(labels[SERVER_ERROR if self.status >= 500 else CLIENT_ERROR], end_ns, duration_ns)
        return 0


cdef class Awaited:
    """An awaitable that awaits another, and sees it end, at the cost of no coroutine."""

    cdef object _inner

    cdef int _returned(self, PyObject** result) except -1:
        """Do what follows the result of the inner one; say whether there is another to await."""
        return False

    cdef int _raised(self, object exc, PyObject** result) except -1:
        """Do what follows an exception; say whether there is a result instead."""
        return False

    cdef int _send(self, PyObject* value, PyObject** result) except -1:
        cdef int sent = PyIter_Send(<PyObject*>self._inner, value, result)
        return sent if sent == PYGEN_NEXT else self._after(sent, result)

    cdef int _after(self, int sent, PyObject** result) except -1:
        try:
            while sent != PYGEN_NEXT:
                if sent == PYGEN_ERROR:
                    _raise()
                if not self._returned(result):
                    return PYGEN_RETURN
                sent = PyIter_Send(<PyObject*>self._inner, <PyObject*>None, result)
        except BaseException as exc:
            if not self._raised(exc, result):
                raise
            return PYGEN_RETURN
        return PYGEN_NEXT

    cdef object _yielded(self, int sent, PyObject* result):
        if sent == PYGEN_NEXT:
            return _taken(result)
        raise StopIteration(_taken(result))

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Go on; as of a coroutine."""
        cdef PyObject* result = NULL
        cdef int sent = self._send(<PyObject*>value, &result)
        return self._yielded(sent, result)

    def throw(self, *error):
        """Go on by an exception; as of a coroutine."""
        cdef PyObject* result = NULL
        try:
            return self._inner.throw(*error)
        except StopIteration as stop:
            value = stop.value
        except BaseException as exc:
            if not self._raised(exc, &result):
                raise
            return self._yielded(PYGEN_RETURN, result)
        Py_INCREF(value)
        result = <PyObject*>value
        cdef int sent = self._after(PYGEN_RETURN, &result)
        return self._yielded(sent, result)

    def close(self):
        """End amid it; as of a coroutine."""
        cdef PyObject* result = NULL
        try:
            self._inner.close()
        finally:
            self._raised(GeneratorExit(), &result)


cdef object _iterator(awaitable):
    return awaitable if PyCoro_CheckExact(awaitable) else awaited(awaitable)


cdef int _am_send(Awaited self, PyObject* value, PyObject** result) except -1:
    return self._send(value, result)


cdef object _LINK = "_handling"
cdef enum:
    HANDLING
    PREPARING
    SENDING


@cython.final
cdef class Handling(Awaited):
    """A request to aiohttp, until it shows itself to be an unusual one.

    The request knows it until its handler returned.
    """

    cdef RequestTimer _timer
    cdef object _request, _response, _other
    cdef int64_t _started_ns, _first_ns
    cdef int _stage

    cdef object _unusual(self):
        if self._other is None:
            self._other = self._timer._twin.unusual(self._request, self._started_ns)
        return self._other

    cdef int _returned(self, PyObject** result) except -1:
        response = _taken(result[0])
        result[0] = NULL
        if self._stage == HANDLING:
            PyObject_SetAttr(self._request, _LINK, <PyObject*>None)
            if self._other is None and type(response) is self._timer._plain:
                self._response = response
                self._stage = PREPARING
                self._inner = _iterator(response.prepare(self._request))
                return True
            self._unusual().answer(response)
        elif self._stage == PREPARING:
            self._first_ns = monotonic_ns()
            self._stage = SENDING
            self._inner = _iterator(self._response.write_eof())
            return True
        else:
            response = self._response
            self._record()
        Py_INCREF(response)
        result[0] = <PyObject*>response
        return False

    cdef int _raised(self, object exc, PyObject** result) except -1:
        if self._stage == HANDLING:
            PyObject_SetAttr(self._request, _LINK, <PyObject*>None)
            self._unusual().broke(exc)
            return False
        self._unusual_head().broke_sending(self._response, exc)
        if not isinstance(exc, Exception):
            return False
        response = self._response
        Py_INCREF(response)
        result[0] = <PyObject*>response
        return True

    cdef object _unusual_head(self):
        other = self._unusual()
        if self._stage == SENDING:
            other.first_ns, other.status = self._first_ns, self._response.status
        return other

    cdef int _record(self) except -1:
        try:
            self._record_usual()
        except Exception:  # another aiohttp than those known
            self._unusual_head().complete()
        return 0

    cdef int _record_usual(self) except -1:
        cdef int64_t end_ns = monotonic_ns(), started_ns = self._started_ns
        cdef RequestTimer timer = self._timer
        cdef int status = self._response._status
        cdef tuple labels = timer._labels(self._request)
        append(labels[TOTAL], end_ns, end_ns - started_ns)
        if timer._with_ttfb:
            append(labels[FIRST_BYTE], self._first_ns, self._first_ns - started_ns)
        if status >= 400:
            append(labels[SERVER_ERROR if status >= 500 else CLIENT_ERROR], end_ns, end_ns - started_ns)
        timer._in_flight._value -= 1
        return 0


(<PyTypeObject*>Handling).tp_as_async.am_send = _am_send


@cython.final
cdef class RequestTimer:
    """Handles the usual requests of a timer."""

    cdef object _twin, _handle, _request_type, _plain
    cdef Gauge _in_flight
    cdef bint _with_ttfb
    cdef dict _known

    def __init__(self, twin, handle, request_type):
        self._twin = twin
        self._handle = handle
        self._request_type = request_type
        self._plain = twin.plain
        self._in_flight = twin.in_flight.gauge
        self._with_ttfb = twin.with_ttfb
        self._known = {}

    def handle(self, request):
        """Handle a request; whatever the application raises passes through."""
        cdef Handling handling
        if not is_recording():
            return self._handle(request)
        if type(request) is not self._request_type:
            return self._twin.handle(request)
        handling = Handling.__new__(Handling)
        handling._timer = self
        handling._request = request
        self._in_flight._value += 1
        PyObject_SetAttr(request, _LINK, <PyObject*>handling)
        handling._started_ns = monotonic_ns()
        handling._inner = _iterator(self._handle(request))
        return handling

    cdef tuple _labels(self, request):
        route, method = request._match_info._route, request._method
        cdef PyObject* found = PyDict_GetItemWithError(self._known, route)
        if found is not NULL:
            found = PyDict_GetItemWithError(<object>found, method)
            if found is not NULL:
                return <tuple>found
        labels = tuple(self._twin.labels(request, ""))
        if self._twin.knows(request):
            self._known.setdefault(route, {})[method] = labels
        return labels


@cython.binding(True)
def prepare_hook(request, response):
    """Do as `Request._prepare_hook` does, and notice a response that begins amid its handler.

    Without a coroutine where no application has anything to be called then.
    """
    if is_recording():
        try:
            handling = request._handling
            if handling is not None:
                (<Handling?>handling)._unusual()
        except AttributeError:  # it came while recording was off
            pass
    try:
        for app in request._match_info._apps:
            if len(app._on_response_prepare):
                break
        else:
            return FINISHED
    except Exception:  # no route, or another aiohttp than those known
        pass
    return request._prepare_hook_coroutine(response)


cdef long _made = 0
cdef list _asked = ASKED


@cython.final
cdef class Connections:
    """What the connections of an ASGI middleware have in common."""

    cdef object _labels
    cdef Gauge _in_flight
    cdef bint _with_ttfb
    cdef dict _known

    def __init__(self, labels, in_flight, with_ttfb):
        global _made
        _made += 1
        self._labels = labels
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
            if _get(scope, RECORDED_BY, self) is not self:
                return None
            scope[RECORDED_BY] = self
        self._in_flight._value += 1
        if _asked:
            PyContextVar_Set(ANSWERING, scope)
        connection = Connection.__new__(Connection)
        connection.kind = WEBSOCKET if kind == "websocket" else ""
        connection._connections = self
        connection._scope = scope
        connection._root_path = _get(scope, "root_path", "")
        connection._receive = receive
        connection._send = send
        connection.started_ns = monotonic_ns()
        return connection

    cdef tuple _labels_of(self, Connection connection):
        scope = connection._scope
        route = None
        if not connection.kind and PyDict_CheckExact(scope):
            route = _deciding(<dict>scope, connection._root_path)
        if route is None:
            return self._learn(connection)
        key = PyLong_FromVoidPtr(<void*>route)
        known = self._known.get(key)
        if known is None:
            known = self._keep(key, route, scope)
        labels = (<dict>known[1]).get(scope["method"])
        if labels is None:
            labels = self._learn(connection)
            if self._labels.keeps(scope):
                (<dict>known[1])[scope["method"]] = labels
        return labels

    cdef tuple _keep(self, object key, object route, object scope):
        known = (route, {})
        if len(self._known) < MOST_ROUTES:
            self._known[key] = known
        return known

    cdef tuple _learn(self, Connection connection):
        return tuple(
            self._labels.of(
                connection._scope, connection._root_path, connection.status, connection.kind
            )
        )


cdef enum:
    MOST_ROUTES = 1000


cdef object _get(object mapping, object key, object default):
    cdef PyObject* found
    if not PyDict_CheckExact(mapping):
        return mapping.get(key, default)
    found = PyDict_GetItemWithError(mapping, key)
    return default if found is NULL else <object>found


cdef object _deciding(dict scope, object root_path):
    """Return what alone says which template a connection has, if one object does.

    So not where it was mounted, where an application below said it, or as Litestar says it.
    """
    route = scope.get("route")
    if (
        route is None
        or scope.get("root_path", "") != root_path
        or TEMPLATE in scope
        or "path_template" in scope
    ):
        return None
    fastapi = scope.get("fastapi")
    if fastapi is not None:
        context = fastapi.get("effective_route_context")
        if context is not None:
            return context if context.original_route is route else None
    return route


@cython.final
cdef class Connection(Exchange):
    """A connection, seen by what its ASGI application receives and sends."""

    cdef Connections _connections
    cdef object _scope, _root_path, _receive, _send

    def receive(self):
        """Receive as the application would, and note that the client has gone."""
        cdef Receiving receiving = Receiving.__new__(Receiving)
        receiving._connection = self
        receiving._inner = _iterator(self._receive())
        return receiving

    def send(self, message):
        """Send as the application would; the exchange ends with its last message."""
        cdef Sending sending = Sending.__new__(Sending)
        kind = message["type"]
        if kind == "http.response.start":
            self._begin(message)
        elif kind == "http.response.body" or kind == "http.response.pathsend":
            self.first_byte()
            sending._is_last = not _get(message, "more_body", False)
        elif kind == "websocket.accept":
            self.first_byte()
        sending._connection = self
        sending._inner = _iterator(self._send(message))
        return sending

    def fail(self, exc):
        """Note how the application failed."""
        # A server cancels what nobody waits for any more; all else it answers by an error.
        if isinstance(exc, CancelledError):
            self.disconnected = True
        else:
            self.status = 500

    def leave(self):
        """Record what became of it, if it has not ended before: the application has."""
        if _asked:
            # Not reset by a token, which another context than this would not have.
            PyContextVar_Set(ANSWERING, None)
        self._record()
        self._connections._in_flight._value -= 1

    cdef int _record(self) except -1:
        if not self.ended:
            self.end(self._connections._labels_of(self), self._connections._with_ttfb)
        return 0

    cdef int _begin(self, message) except -1:
        self.status = message["status"]
        for name, value in _get(message, "headers", ()):
            if (
                len(name) == 12
                and name.lower() == b"content-type"
                and value.startswith(b"text/event-stream")
            ):
                self.kind = EVENTS
        return 0


@cython.final
cdef class Sending(Awaited):
    """What a server is sending."""

    cdef Connection _connection
    cdef bint _is_last

    cdef int _returned(self, PyObject** result) except -1:
        # A background task may follow the response: it is not the client's time.
        if self._is_last:
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
        if (<object>result[0])["type"] == "http.disconnect" and not self._connection.ended:
            self._connection.disconnected = True
        return False


(<PyTypeObject*>Sending).tp_as_async.am_send = _am_send
(<PyTypeObject*>Receiving).tp_as_async.am_send = _am_send


@cython.final
cdef class Answer(Exchange):
    """One request's `start_response`, and the body of its response, whose close ends it."""

    cdef object _requests, _environ, _start_response, _template, _body, _chunks, _length_bytes
    cdef Gauge _in_flight
    cdef bint _answered, _exhausted
    cdef Py_ssize_t _given_bytes

    def __init__(self, requests, environ, start_response):
        self.kind = ""
        self.started_ns = monotonic_ns()
        self._requests = requests
        self._environ = environ
        self._start_response = start_response
        self._in_flight = requests.in_flight.gauge
        self._in_flight._value += 1

    def start(self, status, headers, *exc_info):
        """Note what the response is, and have it begin."""
        try:
            self.status = int(status.split(" ", 1)[0])
            self._note(headers)
        except Exception:  # the server tells what is wrong with them
            pass
        # Flask forgets the route before the body is sent.
        self._template = self._requests.template(self._environ)
        self._answered = True
        return self._start_response(status, headers, *exc_info)

    cdef int _note(self, headers) except -1:
        cdef Py_ssize_t length
        self.kind, self._length_bytes = "", None
        for name, value in headers:
            # By its length at first, since most are others.
            length = len(name)
            if length == 12 and name.lower() == "content-type":
                self.kind = EVENTS if value.startswith("text/event-stream") else ""
            elif length == 14 and name.lower() == "content-length":
                self._length_bytes = value
        return 0

    def fail(self):
        """End by an exception, which the server answers by an error."""
        self.status = 500
        self.done()

    def watched(self, body):
        """Return what a server is given for the application's body."""
        self._body = body
        wrapper = self._environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            # A server sends a file by the kernel, if it gets it as it is.
            self.first_byte()
            body.close = partial(_close_file, self, getattr(body, "close", None))
            return body
        self._chunks = iter(body)
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # its slot is set below

    def close(self):
        """Close the body, as servers do when they have sent it or can't any more."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self.disconnected = not (self._exhausted or self._is_quit_after_all())
            self.done()

    cdef bint _is_quit_after_all(self) except -1:
        # A worker that is told to quit may be so between the last chunk and the end.
        is_quit = isinstance(sys.exc_info()[1], SystemExit)
        return is_quit and self._length_bytes == str(self._given_bytes)

    def done(self):
        """Record the request, once."""
        if self.ended:
            return
        if not self._answered:  # it raised before
            self._template = self._requests.template(self._environ)
        method = self._environ.get("REQUEST_METHOD", "GET")
        labels = self._requests.labels.of(self._template, method, self.kind)
        self.end(tuple(labels), self._requests.with_ttfb)
        self._in_flight._value -= 1


cdef PyObject* _next_chunk(Answer answer) except? NULL:
    """Return the next chunk, or NULL at the end, which an exception would cost more."""
    cdef PyObject* chunk = PyIter_Next(answer._chunks)
    if chunk is NULL:
        answer._exhausted = True
        if PyErr_Occurred() is not NULL:
            if PyErr_ExceptionMatches(SystemExit):
                answer._exhausted = False
            else:
                answer.status = 500
        return NULL
    if PyObject_IsTrue(<object>chunk):
        answer.first_byte()
        answer._given_bytes += len(<object>chunk)
    return chunk


(<PyTypeObject*>Answer).tp_iternext = _next_chunk


def _close_file(Answer answer, close):
    try:
        if close is not None:
            close()
    finally:
        answer.done()
