# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `wsgi_answers`."""

cimport cython
from cpython.exc cimport PyErr_ExceptionMatches, PyErr_Occurred
from cpython.object cimport PyObject

import sys
from functools import partial

from aqltelemetry.request_labels import EVENTS

from aqltelemetry._exchange cimport Exchange, Gauge
from aqltelemetry._hot_path cimport monotonic_ns


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        PyObject* (*tp_iternext)(Answer) except? NULL
    PyObject* PyIter_Next(object iterator) noexcept
    int PyObject_IsTrue(object thing) except -1


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
        self._in_flight.count += 1

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
        self._in_flight.count -= 1


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
