# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `wsgi_answers`."""

cimport cython
from cpython.exc cimport PyErr_ExceptionMatches, PyErr_Occurred
from cpython.object cimport PyObject

import sys
from functools import partial

from aqltelemetry.hosts.labels import (
    ANSWERING, EVENTS, PLACE, RECORDED_BY, RequestLabels, telling
)

from aqltelemetry.hosts._exchange cimport Exchange, Gauge, get, taken
from aqltelemetry.recording._hot_path cimport is_recording, monotonic_ns


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        PyObject* (*tp_iternext)(Answer) except? NULL
    PyObject* PyIter_Next(object iterator) noexcept
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    object PyLong_FromVoidPtr(void* pointer)
    int PyContextVar_Get(object variable, PyObject* default, PyObject** value) except -1
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* length) except NULL
    int PyOS_strnicmp(const char* one, const char* other, Py_ssize_t length)


cdef enum:
    MOST_RULES = 1000


cdef class Requests:
    """A WSGI application around another, and what its requests have in common."""

    cdef public bint is_ready
    cdef readonly object app, template
    cdef object _labels
    cdef Gauge _gauge
    cdef public object routes
    cdef bint _with_ttfb, _by_rule, _has_looked, _has_mounts
    cdef dict _known

    def __init__(self, app, template, in_flight, *, with_ttfb, by_rule=False):
        self.app = app
        self.template = template
        self._labels = RequestLabels()
        self._gauge = in_flight.gauge
        self._with_ttfb = with_ttfb
        self._by_rule = by_rule
        # By the number of a rule of Flask's, which is kept beside: template, labels by method.
        self._known = {}

    def __call__(self, environ, start_response):
        """Handle a request; whatever the application raises passes through."""
        cdef Answer answer
        cdef bint is_answered = False
        cdef PyObject* outer = NULL
        PyContextVar_Get(ANSWERING, NULL, &outer)
        scope = taken(outer)
        if scope is not None:
            if not self._has_looked:
                self._look()
            if self._has_mounts:
                environ[PLACE] = self.routes.find_safely(environ)
            return self.app(environ, telling(self.template, scope, environ, start_response))
        if not self.is_ready:
            self._look()
            self.get_ready()
        # Within another one of its kind, only the outer one records.
        if not is_recording() or environ.setdefault(RECORDED_BY, self) is not self:
            return self.app(environ, start_response)
        if self._has_mounts:
            environ[PLACE] = self.routes.find_safely(environ)
        answer = Answer.__new__(Answer)
        answer._begin(self, environ, start_response)
        try:
            body = answer.watched(self.app(environ, answer.start))
            is_answered = True
        finally:  # not `except`, whose line would be one more frame in tracebacks
            if not is_answered:
                answer.fail()
        return body

    cdef int _look(self) except -1:
        """Look at the application's routes, before the first request."""
        if not self._has_looked and self.routes is not None:
            self.routes.look()
            self._has_mounts = self.routes.has_any_mounts
        self._has_looked = True
        return 0

    def get_ready(self):
        """Do what a process's first request needs to be recorded."""
        self.is_ready = True

    cdef tuple _rule(self, environ):
        """Return what is known of the rule that a request of Flask's has; None if it has none."""
        request = get(environ, "werkzeug.request", None)
        if request is None or not self._by_rule:
            return None
        try:
            rule = request.url_rule
        except Exception:  # as the template's way will say
            return None
        if rule is None:
            return None
        key = PyLong_FromVoidPtr(<void*>rule)
        if self._has_mounts:  # of an application that may be mounted twice
            key = (key, environ[PLACE].prefix)
        cdef PyObject* found = PyDict_GetItemWithError(self._known, key)
        if found is not NULL:
            return <tuple>found
        template = self.template(environ)
        if template is None or len(self._known) >= MOST_RULES:
            return None
        known = (rule, template, {})
        self._known[key] = known
        return known


@cython.final
cdef class Answer(Exchange):
    """One request's `start_response`, and the body of its response, whose close ends it."""

    cdef Requests _requests
    cdef object _environ, _start_response, _template, _body, _chunks, _length_bytes
    cdef tuple _rule
    cdef bint _answered, _exhausted
    cdef Py_ssize_t _given_bytes

    def __init__(self, requests, environ, start_response):
        self._begin(requests, environ, start_response)

    cdef int _begin(self, Requests requests, object environ, object start_response) except -1:
        self.kind = ""
        self.started_ns = monotonic_ns()
        self._requests = requests
        self._environ = environ
        self._start_response = start_response
        requests._gauge.count += 1
        return 0

    def start(self, status, headers, exc_info=None):
        """Note what the response is, and have it begin."""
        try:
            self.status = _number(status)
            self._note(headers)
        except Exception:  # the server tells what is wrong with them
            pass
        # Flask forgets the route before the body is sent.
        self._rule = self._requests._rule(self._environ)
        if self._rule is None:
            self._template = self._requests.template(self._environ)
        self._answered = True
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    cdef int _note(self, headers) except -1:
        cdef Py_ssize_t length
        self.kind, self._length_bytes = "", None
        for name, value in headers:
            # By its length at first, since most are others.
            length = len(name)
            if length == 12 and _is_named(name, b"content-type"):
                self.kind = EVENTS if (<str?>value).startswith("text/event-stream") else ""
            elif length == 14 and _is_named(name, b"content-length"):
                self._length_bytes = value
        return 0

    def fail(self):
        """End by an exception, which the server answers by an error."""
        self.status = 500
        self.done()

    def watched(self, body):
        """Return what a server is given for the application's body."""
        cdef SizedBody sized
        self._body = body
        if type(body) is not list:
            if type(body) is bytes or type(body) is str:
                return self._untouched(body)  # which some servers send, and some refuse
            wrapper = get(self._environ, "wsgi.file_wrapper", None)
            if isinstance(wrapper, type):
                if isinstance(body, wrapper):
                    # A server sends a file by the kernel, if it gets it as it is.
                    self.first_byte()
                    body.close = partial(_close_file, self, getattr(body, "close", None))
                    return body
            elif wrapper is not None and hasattr(body, "fileno"):
                # uWSGI's, of which nothing tells when they have been sent.
                return self._untouched(body)
        self._chunks = iter(body)
        if not hasattr(body, "__len__"):
            return self
        sized = SizedBody.__new__(SizedBody)
        sized._answer = self
        return sized

    cdef object _untouched(self, object body):
        """End with the application's return, for a body that the server must get itself."""
        self.first_byte()
        self.done()
        return body

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # its slot is set below

    def close(self):
        """Close the body, as servers do when they have sent it or can't any more."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
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
        self.end(self._labels(), self._requests._with_ttfb)
        self._requests._gauge.count -= 1

    cdef tuple _labels(self):
        method = get(self._environ, "REQUEST_METHOD", "GET")
        if self._rule is None:
            return tuple(self._requests._labels.of(self._template, method, self.kind))
        _, template, by_method = self._rule
        key = (method, self.kind) if self.kind else method
        labels = (<dict>by_method).get(key)
        if labels is None:
            labels = tuple(self._requests._labels.of(template, method, self.kind))
            if self._requests._labels.keeps(method):
                by_method[key] = labels
        return labels


@cython.final
cdef class SizedBody:
    """The body of a response whose number of chunks is known."""

    cdef Answer _answer
    cdef bint _is_iterated

    def __len__(self):
        return len(self._answer._body)

    def __iter__(self):
        # gevent's server goes through it for the length of all, in the middle of sending it.
        if self._is_iterated:
            return iter(self._answer._body)
        self._is_iterated = True
        return self._answer

    def close(self):
        """Close the body, as servers do when they have sent it or can't any more."""
        self._answer.close()


cdef bint _is_named(object header, const char* name) except -1:
    """Say whether a header that is as long has a name, in whichever case."""
    cdef Py_ssize_t length = 0
    cdef const char* text = PyUnicode_AsUTF8AndSize(header, &length)
    return not PyOS_strnicmp(text, name, length)


cdef long _number(status) except? -1:
    """Return the number that a status begins with."""
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
    return int(status.split(" ", 1)[0])


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
    # Anything else is an error of the application, about which servers differ.
    if isinstance(<object>chunk, bytes) and len(<bytes><object>chunk):
        answer.first_byte()
        answer._given_bytes += len(<bytes><object>chunk)
    return chunk


(<PyTypeObject*>Answer).tp_iternext = _next_chunk


def _close_file(Answer answer, close):
    try:
        if close is not None:
            close()
    finally:
        answer.done()
