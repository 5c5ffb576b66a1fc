# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `request_record` for the usual request; it leaves others to that."""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t

import sys
from types import MemberDescriptorType

from aqltelemetry.recording.reentrancy import FINISHED

from aqltelemetry.hosts._request_record cimport (
    Awaited, Gauge, am_send_awaited, iterator_of, record_request
)
from aqltelemetry.recording._hot_path cimport is_recording, monotonic_ns
from aqltelemetry.recording._in_flight_slots cimport claim_slot, release_slot


cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset


cdef extern from "Python.h":
    ctypedef struct PyAsyncMethods:
        int (*am_send)(Awaited, PyObject*, PyObject**) noexcept
    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
    ctypedef struct PyMemberDescrObject:
        PyMemberDef* d_member
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL


cdef Py_ssize_t _in_request = 0, _in_protocol = 0


def connect(request_type, protocol_type):
    """Set the classes whose slot `_handling` holds the `Handling` of a request or connection."""
    global _in_request, _in_protocol
    _in_request, _in_protocol = _offset(request_type), _offset(protocol_type)


cdef Py_ssize_t _offset(owner) except -1:
    """Return the offset of the slot, since access by name takes several times as long."""
    descriptor = owner.__dict__["_handling"]
    if type(descriptor) is not MemberDescriptorType:
        raise TypeError("not a slot")
    return (<PyMemberDescrObject*>descriptor).d_member.offset


cdef inline Handling _handling(object owner, Py_ssize_t offset):
    cdef PyObject* found = (<PyObject**>(<char*><PyObject*>owner + offset))[0]
    return None if found is NULL else <Handling>found


cdef inline int _set_handling(object owner, Py_ssize_t offset, Handling handling) except -1:
    cdef PyObject** slot = <PyObject**>(<char*><PyObject*>owner + offset)
    cdef PyObject* before = slot[0]
    Py_INCREF(handling)
    slot[0] = <PyObject*>handling
    Py_XDECREF(before)
    return 0


@cython.final
cdef class Handling(Awaited):
    """The current request of a connection, unless it turns out to be an unusual one.

    It awaits the handler. aiohttp sends the response, and calls `prepare_hook` when the head
    begins and `log_access` when the response was sent.
    """

    cdef RequestTimer _timer
    cdef object _request, _response, _other
    cdef tuple _labels
    cdef int64_t _started_ns, _first_ns, _slot

    cdef object _unusual(self):
        if self._other is None:
            self._other = self._timer._twin.begin(self._request, self._started_ns, self._slot)
        return self._other

    cdef int _returned(self, PyObject** result) except -1:
        response = <object>result[0]
        if self._other is None and type(response) is self._timer._plain:
            self._response = response
        else:
            other = self._unusual()
            self._leave()
            other.handler_returned(response)
        return False

    cdef int _raised(self, object exc, PyObject** result) except -1:
        if self._request is not None and self._response is None:
            other = self._unusual()
            self._leave()
            other.handler_raised(exc)
        return False

    cdef int _leave(self) except -1:
        """Make room for the connection's next request."""
        if self._request is not None:
            _set_handling(self._request, _in_request, None)
        self._request = self._response = self._other = self._labels = None
        self._first_ns = 0
        return 0

    cdef bint _begin(self) except -1:
        """Note when the head begins; return whether there is nothing to await before it."""
        if self._request is None:  # a copy of a request that has ended
            return False
        if self._response is None:  # the handler is still running
            self._unusual()
            return False
        self._labels = self._timer._labels_of(self._request)
        if self._labels is None:
            return False
        self._first_ns = monotonic_ns()
        return True

    cdef object _begin_after(self, hook):
        """Note when the head begins, after an awaitable."""
        cdef Preparing preparing
        if self._response is None:
            return hook
        if hook is FINISHED:
            self._first_ns = monotonic_ns()
            return hook
        preparing = Preparing.__new__(Preparing)
        preparing._handling = self
        preparing._inner = iterator_of(hook)
        return preparing

    cdef int _sent(self) except -1:
        """Record the request, whose response was sent unless the client has gone."""
        exc = sys.exc_info()[1]
        try:
            if exc is None or self._response._eof_sent:
                self._record()
                self._leave()
                return 0
        except Exception:  # an unknown version of aiohttp
            pass
        return self._fail(exc)

    cdef int _fail(self, exc) except -1:
        other = self._unusual()
        if self._first_ns:
            other.first_ns, other.status = self._first_ns, self._response.status
        self._leave()
        if exc is None:
            other.complete()
        else:
            other.fail(exc, disconnected=True)
        return 0

    cdef int _record(self) except -1:
        cdef RequestTimer timer = self._timer
        cdef long status = self._response._status
        cdef tuple labels = self._labels
        if labels is None:
            labels = tuple(timer._twin.labels(self._request, ""))
        record_request(
            labels, self._started_ns, self._first_ns if timer._with_ttfb else 0, status, False, None
        )
        timer._in_flight.count -= 1
        release_slot(self._slot)
        return 0


@cython.final
cdef class Preparing(Awaited):
    """The signals of an application before the head of a response."""

    cdef Handling _handling

    cdef int _returned(self, PyObject** result) except -1:
        self._handling._first_ns = monotonic_ns()
        return False


(<PyTypeObject*>Handling).tp_as_async.am_send = am_send_awaited
(<PyTypeObject*>Preparing).tp_as_async.am_send = am_send_awaited


@cython.final
cdef class RequestTimer:
    """Creates the requests of an application, and handles the usual ones for a timer."""

    cdef object _twin, _handle, _make, _request_type, _protocol_type, _plain, _refused
    cdef Gauge _in_flight
    cdef bint _with_ttfb
    cdef dict _known

    def __init__(self, twin, make, handle, request_type, protocol_type):
        self._twin = twin
        self._make = make
        self._handle = handle
        self._request_type = request_type
        self._protocol_type = protocol_type
        self._plain = twin.plain
        self._refused = twin.refused_message
        self._in_flight = twin.in_flight.gauge
        self._with_ttfb = twin.with_ttfb
        self._known = {}

    def make(self, message, payload, protocol, writer, task):
        """Return a request that reports when the head of its response begins."""
        request = self._make(message, payload, protocol, writer, task, self._request_type)
        if message is self._refused:
            self._twin.refused(request)
        return request

    def handle(self, request):
        """Handle a request; what the application raises passes through."""
        cdef Handling handling
        if not is_recording():
            return self._handle(request)
        if type(request) is not self._request_type:
            return self._twin.handle(request)
        protocol = request._protocol
        if type(protocol) is not self._protocol_type:
            return self._twin.handle(request)
        handling = _handling(protocol, _in_protocol)
        if handling is None:
            handling = Handling.__new__(Handling)
            _set_handling(protocol, _in_protocol, handling)
        elif handling._request is not None:  # an application handles one within another
            return self._twin.handle(request)
        handling._started_ns = monotonic_ns()
        handling._inner = iterator_of(self._handle(request))
        handling._timer = self
        handling._request = request
        _set_handling(request, _in_request, handling)
        self._in_flight.count += 1
        handling._slot = claim_slot(
            request._method, request._message.path, handling._started_ns
        )
        return handling

    cdef tuple _labels_of(self, request):
        """Return the labels of a request's route; None if there are signals to await."""
        match_info = request._match_info
        route, method = match_info._route, request._method
        cdef PyObject* found = PyDict_GetItemWithError(self._known, route)
        if found is not NULL:
            found = PyDict_GetItemWithError(<object>found, method)
            if found is not NULL:
                return <tuple>found
        # A route of the outermost application belongs to no other application.
        if len(match_info._apps) != 1 or _has_hooks(request):
            return None
        labels = tuple(self._twin.labels(request, ""))
        if self._twin.knows(request):
            self._known.setdefault(route, {})[method] = labels
        return labels


cdef bint _has_hooks(request) except -1:
    """Return whether an application has signals to send before a response."""
    for app in request._match_info._apps:
        if len(app._on_response_prepare):
            return True
    return False


@cython.binding(True)
def prepare_hook(request, response):
    """Do the same as `Request._prepare_hook`, and note that a response begins.

    It creates no coroutine where no application has signals to send.
    """
    cdef Handling handling = _handling(request, _in_request) if is_recording() else None
    try:
        if handling is not None and handling._begin():
            return FINISHED
        hook = None if _has_hooks(request) else FINISHED
    except Exception:  # no route, or an unknown version of aiohttp
        hook = None
    if hook is None:
        hook = request.prepare_hook_untimed(response)
    return hook if handling is None else handling._begin_after(hook)


@cython.binding(True)
def log_access(protocol, request, response, start):
    """Record the response, and do the same as `RequestHandler.log_access`."""
    cdef Handling handling = _handling(protocol, _in_protocol)
    if handling is not None and handling._response is not None:
        handling._sent()
    if protocol.access_logger is not None:
        protocol.log_untimed(request, response, start)


@cython.binding(True)
def force_close(protocol):
    """Record a response that is not logged, and do the same as `RequestHandler.force_close`."""
    cdef Handling handling = _handling(protocol, _in_protocol)
    exc = sys.exc_info()[1]
    if handling is not None and handling._response is not None and exc is not None:
        handling._fail(exc)
    protocol.force_close_untimed()
