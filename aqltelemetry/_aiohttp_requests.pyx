# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `aiohttp_requests`, for the usual request; others are left to that."""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t

from aqltelemetry.entries import FINISHED

from aqltelemetry._exchange cimport (
    CLIENT_ERROR, FIRST_BYTE, SERVER_ERROR, TOTAL, Awaited, Gauge, am_send_awaited, iterator_of, taken
)
from aqltelemetry._hot_path cimport append, is_recording, monotonic_ns


cdef extern from "Python.h":
    ctypedef struct PyAsyncMethods:
        int (*am_send)(Awaited, PyObject*, PyObject**) except -1
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
    int PyObject_SetAttr(object thing, object name, PyObject* value) except -1
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL


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
        response = taken(result[0])
        result[0] = NULL
        if self._stage == HANDLING:
            PyObject_SetAttr(self._request, _LINK, <PyObject*>None)
            if self._other is None and type(response) is self._timer._plain:
                self._response = response
                self._stage = PREPARING
                self._inner = iterator_of(response.prepare(self._request))
                return True
            self._unusual().answer(response)
        elif self._stage == PREPARING:
            self._first_ns = monotonic_ns()
            self._stage = SENDING
            self._inner = iterator_of(self._response.write_eof())
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
        timer._in_flight.count -= 1
        return 0


(<PyTypeObject*>Handling).tp_as_async.am_send = am_send_awaited


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
        handling._started_ns = monotonic_ns()
        handling._inner = iterator_of(self._handle(request))
        PyObject_SetAttr(request, _LINK, <PyObject*>handling)
        self._in_flight.count += 1
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
