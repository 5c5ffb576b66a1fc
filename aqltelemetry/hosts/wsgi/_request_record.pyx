# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `request_record`."""

cimport cython
from cpython.exc cimport PyErr_ExceptionMatches, PyErr_Occurred
from cpython.object cimport PyObject

import sys
from functools import partial

from aqltelemetry.hosts.labels import (
    CURRENT_ASGI_SCOPE, EVENTS, PLACE, RECORDED_BY, RequestLabels, route_reporter
)

from aqltelemetry.recording.cpu_time import CpuSpan
from aqltelemetry.recording.last_words import say_exit

from aqltelemetry.hosts._request_record cimport Gauge, RequestRecord, get, taken
from aqltelemetry.recording._hot_path cimport is_recording, monotonic_ns
from aqltelemetry.recording._in_flight_slots cimport claim_slot, release_slot


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        PyObject* (*tp_iternext)(WsgiRequestRecord) except? NULL
    PyObject* PyIter_Next(object iterator) noexcept
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    object PyLong_FromVoidPtr(void* pointer)
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1


cdef enum:
    MOST_RULES = 1000
    MAX_STATUS = 1000


cdef class RecordedApplication:
    """A WSGI application that wraps another one and records its requests."""

    cdef public bint is_ready
    cdef public object routes
    cdef readonly object app, template
    cdef object _labels
    cdef Gauge _in_flight
    cdef bint _with_ttfb, _with_cpu_time, _by_rule, _has_looked, _has_mounts
    cdef dict _known

    def __init__(
        self, app, template, in_flight, *, with_ttfb, by_rule=False, with_cpu_time=False
    ):
        self._by_rule = by_rule
        # By the id of a rule, with the prefix of a mounted application: the template, its labels
        # by method, and the rule, since the id is unique only while the rule lives.
        self._known = {}
        self.app = app
        self.template = template
        self._labels = RequestLabels()
        self._in_flight = in_flight.gauge
        self._with_ttfb = with_ttfb
        self._with_cpu_time = with_cpu_time

    def __call__(self, environ, start_response):
        """Handle a request; what the application raises passes through."""
        cdef WsgiRequestRecord record
        cdef bint has_returned = False
        cdef PyObject* outer = NULL
        PyContextVar_Get(CURRENT_ASGI_SCOPE, NULL, &outer)
        scope = taken(outer)
        if scope is not None:
            self._look()
            if self._has_mounts:
                environ[PLACE] = self.routes.find_safely(environ)
            return self.app(environ, route_reporter(self.template, scope, environ, start_response))
        if not self.is_ready:
            self._look()
            self.get_ready()
        # Of two nested middlewares, only the outer one records.
        if not is_recording() or environ.setdefault(RECORDED_BY, self) is not self:
            return self.app(environ, start_response)
        if self._has_mounts:
            environ[PLACE] = self.routes.find_safely(environ)
        record = WsgiRequestRecord.__new__(WsgiRequestRecord)
        record.kind = ""
        record.started_ns = monotonic_ns()
        if self._with_cpu_time:
            record.meter = CpuSpan()
        record._application = self
        record._environ = environ
        record._start_response = start_response
        self._in_flight.count += 1
        record.slot = claim_slot(
            get(environ, "REQUEST_METHOD", "GET"),
            get(environ, "PATH_INFO", None),
            record.started_ns,
        )
        try:
            body = record.wrap_body(self.app(environ, record.start))
            has_returned = True
        finally:  # `except` would add a frame to the traceback
            if not has_returned:
                record.fail()
        return body

    cdef int _look(self) except -1:
        """Read the routes of the application, before the first request."""
        if not self._has_looked and self.routes is not None:
            self.routes.look()
            self._has_mounts = self.routes.has_any_mounts
        self._has_looked = True
        return 0

    def get_ready(self):
        """Prepare the recording in this process."""
        self.is_ready = True

    cdef tuple _known_rule(self, environ):
        """Return rule, template, and labels by method of a request to Flask, else None."""
        cdef PyObject* found
        rule = self._rule(environ)
        if rule is None:
            return None
        key = PyLong_FromVoidPtr(<void*>rule)
        if self._has_mounts:  # an application may be mounted twice
            key = (key, environ[PLACE].prefix)
        found = PyDict_GetItemWithError(self._known, key)
        if found is not NULL:
            return <tuple>found
        known = (rule, self.template(environ), {})
        if known[1] is not None and len(self._known) < MOST_RULES:
            self._known[key] = known
        return known

    cdef object _rule(self, environ):
        request = get(environ, "werkzeug.request", None)
        if request is None or not self._by_rule:
            return None
        try:
            return request.url_rule
        except Exception:  # the request of another framework, or a broken one
            return None


@cython.final
cdef class WsgiRequestRecord(RequestRecord):
    """One request, its `start_response`, and the body of its response, which ends when closed."""

    cdef RecordedApplication _application
    cdef object _environ, _start_response, _template, _body, _chunks, _length_bytes
    cdef tuple _rule
    cdef bint _answered, _exhausted
    cdef Py_ssize_t _given_bytes

    def start(self, status, headers, exc_info=None):
        """Note the status and the headers of the response, and start it."""
        try:
            self.status = _number(status)
            self._note(headers)
        except Exception:  # the server reports a malformed response
            pass
        # Flask forgets the route before the body is sent.
        self._rule = self._application._known_rule(self._environ)
        if self._rule is None:
            self._template = self._application.template(self._environ)
        self._answered = True
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    cdef int _note(self, headers) except -1:
        cdef Py_ssize_t length
        self.kind, self._length_bytes = "", None
        for name, value in headers:
            # The length is compared first, since most headers have another one.
            length = len(name)
            if length == 12 and (name == "Content-Type" or name.lower() == "content-type"):
                self.kind = EVENTS if value.startswith("text/event-stream") else ""
            elif length == 14 and (name == "Content-Length" or name.lower() == "content-length"):
                self._length_bytes = value
        return 0

    def fail(self):
        """End by an exception; the server sends an error."""
        say_exit(sys.exc_info()[1])
        self.status = 500
        self.done()

    def wrap_body(self, body):
        """Return the body for the server."""
        cdef SizedBody sized
        self._body = body
        if type(body) is not list:
            if type(body) is bytes or type(body) is str:
                return self._end_at_once(body)  # some servers send it, and some refuse it
            wrapper = get(self._environ, "wsgi.file_wrapper", None)
            if isinstance(wrapper, type):
                if isinstance(body, wrapper):
                    # The server sends the file by the kernel if it receives this object itself.
                    self.first_byte()
                    body.close = partial(_close_file, self, getattr(body, "close", None))
                    return body
            elif wrapper is not None and hasattr(body, "fileno"):
                # uWSGI does not report when it has sent the file.
                return self._end_at_once(body)
        self._chunks = iter(body)
        if not hasattr(body, "__len__"):
            return self
        sized = SizedBody.__new__(SizedBody)
        sized._record = self
        return sized

    cdef object _end_at_once(self, object body):
        """End when the application returns, for a body that can't be wrapped."""
        self.first_byte()
        self.done()
        return body

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # the slot is set below

    def close(self):
        """Close the body; servers do so when it is sent, or can't be sent any more."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self.disconnected = not (self._exhausted or self._is_quit_after_all())
            self.done()

    cdef bint _is_quit_after_all(self) except -1:
        # A worker may be stopped between the last chunk and the end.
        is_quit = isinstance(sys.exc_info()[1], SystemExit)
        return is_quit and self._length_bytes == str(self._given_bytes)

    def done(self):
        """Record the request, once."""
        if self.ended:
            return
        if not self._answered:  # the application has raised before
            self._template = self._application.template(self._environ)
        self.end(self._labels(), self._application._with_ttfb)
        self._application._in_flight.count -= 1
        release_slot(self.slot)

    cdef tuple _labels(self):
        method = get(self._environ, "REQUEST_METHOD", "GET")
        if self._rule is None:
            return tuple(self._application._labels.of(self._template, method, self.kind))
        _, template, by_method = self._rule
        key = (method, self.kind) if self.kind else method
        labels = (<dict>by_method).get(key)
        if labels is None:
            labels = tuple(self._application._labels.of(template, method, self.kind))
            if self._application._labels.keeps(method):
                by_method[key] = labels
        return labels


@cython.final
cdef class SizedBody:
    """The body of a response whose number of chunks is known."""

    cdef WsgiRequestRecord _record
    cdef bint _is_iterated

    def __len__(self):
        return len(self._record._body)

    def __iter__(self):
        # gevent's server iterates once more for the whole length, while it sends the body.
        if self._is_iterated:
            return iter(self._record._body)
        self._is_iterated = True
        return self._record

    def close(self):
        """Close the body; servers do so when it is sent, or can't be sent any more."""
        self._record.close()


cdef long _number(status) except? -1:
    """Return the number at the start of a status, at most MAX_STATUS."""
    cdef str text
    cdef long number = 0
    cdef int at, digit
    if type(status) is str and len(<str>status) > 3:
        text = status
        for at in range(3):
            digit = <int>text[at] - 48
            if not 0 <= digit <= 9:
                break
            number = 10 * number + digit
        else:
            if text[3] == u" ":
                return number
    return min(max(int(status.split(" ", 1)[0]), 0), MAX_STATUS)


cdef PyObject* _next_chunk(WsgiRequestRecord record) except? NULL:
    """Return the next chunk, or NULL at the end, without the cost of a StopIteration."""
    cdef PyObject* chunk = PyIter_Next(record._chunks)
    if chunk is NULL:
        record._exhausted = True
        if PyErr_Occurred() is not NULL:
            if PyErr_ExceptionMatches(SystemExit):
                record._exhausted = False
            else:
                record.status = 500
        return NULL
    # Any other chunk is an error of the application, which each server handles differently.
    if isinstance(<object>chunk, bytes) and len(<bytes><object>chunk):
        record.first_byte()
        record._given_bytes += len(<bytes><object>chunk)
    return chunk


(<PyTypeObject*>WsgiRequestRecord).tp_iternext = _next_chunk


def _close_file(WsgiRequestRecord record, close):
    try:
        if close is not None:
            close()
    finally:
        record.done()
