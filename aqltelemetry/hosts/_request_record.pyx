# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twin of `request_record`, and a base of awaitables for those of the hosts.

An `Awaited` takes less time than a coroutine that awaits another one.
"""

cimport cython
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t

from aqltelemetry.recording.cpu_time import append_cpu_time
from aqltelemetry.recording.reentrancy import awaited

from aqltelemetry.recording._hot_path cimport append, monotonic_ns


cdef extern from "Python.h":
    int PyIter_Send(PyObject* iterator, PyObject* value, PyObject** result) noexcept
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    bint PyCoro_CheckExact(object thing)
    bint PyDict_CheckExact(object thing)
    PyObject* PyObject_GetAttrString(PyObject* owner, const char* name) noexcept
    PyObject* PyObject_Call(PyObject* function, PyObject* args, PyObject* kwargs) noexcept
    bint PyErr_ExceptionMatches(PyObject* kind) noexcept
    void PyErr_Fetch(PyObject** kind, PyObject** exc, PyObject** traceback) noexcept
    void PyErr_NormalizeException(
        PyObject** kind, PyObject** exc, PyObject** traceback
    ) noexcept
    void PyErr_Restore(PyObject* kind, PyObject* exc, PyObject* traceback) noexcept
    int PyException_SetTraceback(PyObject* exc, PyObject* traceback) noexcept
    void PyException_SetContext(PyObject* exc, PyObject* context) noexcept


cdef int _raise() except -1:
    """Raise the exception that a call of C has set."""
    return -1


cdef object taken(PyObject* new):
    """Return an object of which a call of C returned a new reference."""
    owned = <object>new
    Py_XDECREF(new)
    return owned


cdef object iterator_of(object awaitable):
    """Return the iterator of an awaitable."""
    return awaitable if PyCoro_CheckExact(awaitable) else awaited(awaitable)


cdef object get(object mapping, object key, object default):
    """Return the value of a key, or a default."""
    cdef PyObject* found
    if not PyDict_CheckExact(mapping):
        return mapping.get(key, default)
    found = PyDict_GetItemWithError(mapping, key)
    return default if found is NULL else <object>found


@cython.final
cdef class Gauge:
    """Counts requests in progress. Thread-safe."""

    def begin(self):
        """Count the start of a request."""
        self.count += 1

    def end(self):
        """Count the end of a request."""
        self.count -= 1

    @property
    def value(self):
        """The number of requests in progress."""
        return self.count


cdef class RequestRecord:
    """One request and its response."""

    cdef int first_byte(self) except -1:
        """Note that the response begins now, unless it has begun before."""
        if not self.first_ns:
            self.first_ns = monotonic_ns()
        return 0

    cdef int end(self, tuple labels, bint with_ttfb) except -1:
        """Record the request, once, however often this is called."""
        if not self.ended:
            self.ended = True
            record_request(
                labels, self.started_ns, self.first_ns if with_ttfb else 0, self.status,
                self.disconnected, self.meter,
            )
        return 0


cdef int record_request(
    tuple labels, int64_t started_ns, int64_t first_ns, long status, bint disconnected, object meter
) except -1:
    """Record a request that ends now; `first_ns` is 0 and `meter` None where they are not recorded."""
    cdef object cpu_ns = None if meter is None else meter.spent_ns()
    cdef int64_t end_ns = monotonic_ns()
    cdef int64_t duration_ns = end_ns - started_ns
    try:
        append(labels[TOTAL], end_ns, duration_ns)
    finally:  # an exception may stop a worker here
        if first_ns:
            append(labels[FIRST_BYTE], first_ns, first_ns - started_ns)
        if disconnected:
            append(labels[DISCONNECT], end_ns, duration_ns)
        elif status >= 400:
            append(labels[SERVER_ERROR if status >= 500 else CLIENT_ERROR], end_ns, duration_ns)
        if meter is not None:
            append_cpu_time(labels[TOTAL], end_ns, duration_ns, cpu_ns)
    return 0


cdef class Awaited:
    """An awaitable that awaits another and handles its end, without a coroutine."""

    cdef int _returned(self, PyObject** result) except -1:
        """Handle the result of the inner one; return whether another one follows."""
        return False

    cdef int _raised(self, object exc, PyObject** result) except -1:
        """Handle an exception; return whether there is a result instead."""
        return False

    # These functions do not raise, but set the exception and return PYGEN_ERROR: Cython would add
    # the frame of each function that raises to the traceback of the application.

    cdef int _send(self, PyObject* value, PyObject** result) noexcept:
        cdef int sent = PyIter_Send(<PyObject*>self._inner, value, result)
        return sent if sent == PYGEN_NEXT else self._after(sent, result)

    cdef int _after(self, int sent, PyObject** result) noexcept:
        cdef int is_more = 0
        while sent == PYGEN_RETURN:
            is_more = (<Follow>_call_returned)(self, result)
            if is_more == 0:
                return PYGEN_RETURN
            Py_XDECREF(result[0])
            result[0] = NULL
            sent = PYGEN_ERROR
            if is_more > 0:
                sent = PyIter_Send(<PyObject*>self._inner, <PyObject*>None, result)
        return sent if sent == PYGEN_NEXT else self._after_error(result)

    cdef int _after_error(self, PyObject** result) noexcept:
        cdef PyObject* kind = NULL
        cdef PyObject* exc = NULL
        cdef PyObject* traceback = NULL
        cdef int is_answered
        PyErr_Fetch(&kind, &exc, &traceback)
        PyErr_NormalizeException(&kind, &exc, &traceback)
        if traceback is not NULL:
            PyException_SetTraceback(exc, traceback)
        is_answered = (<FollowError>_call_raised)(self, exc, result)
        if is_answered == 0:
            PyErr_Restore(kind, exc, traceback)
            return PYGEN_ERROR
        if is_answered < 0:
            _chain(exc)
        Py_XDECREF(kind)
        Py_XDECREF(exc)
        Py_XDECREF(traceback)
        return PYGEN_RETURN if is_answered > 0 else PYGEN_ERROR

    cdef int _throw(self, tuple error, PyObject** result) noexcept:
        cdef PyObject* method = PyObject_GetAttrString(<PyObject*>self._inner, "throw")
        if method is NULL:
            return self._after_error(result)
        result[0] = PyObject_Call(method, <PyObject*>error, NULL)
        Py_XDECREF(method)
        if result[0] is not NULL:
            return PYGEN_NEXT
        if not PyErr_ExceptionMatches(<PyObject*>StopIteration):
            return self._after_error(result)
        return self._after((<Stopped>_stop_value)(result), result)

    cdef object _yielded(self, int sent, PyObject* result):
        if sent == PYGEN_NEXT:
            return taken(result)
        raise StopIteration(taken(result))

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Continue with a value, as a coroutine does."""
        cdef PyObject* result = NULL
        cdef int sent = self._send(<PyObject*>value, &result)
        if sent == PYGEN_ERROR:
            _raise()
        return self._yielded(sent, result)

    def throw(self, *error):
        """Continue with an exception, as a coroutine does."""
        cdef PyObject* result = NULL
        cdef int sent = self._throw(error, &result)
        if sent == PYGEN_ERROR:
            _raise()
        return self._yielded(sent, result)

    def close(self):
        """End before the inner one has ended, as a coroutine does."""
        cdef PyObject* result = NULL
        try:
            self._inner.close()
        finally:
            self._raised(GeneratorExit(), &result)


cdef int am_send_awaited(Awaited self, PyObject* value, PyObject** result) noexcept:
    """The slot `am_send` of these classes, which Cython can't set in another way."""
    return self._send(value, result)


ctypedef int (*Follow)(Awaited, PyObject**) noexcept
ctypedef int (*FollowError)(Awaited, PyObject*, PyObject**) noexcept
ctypedef int (*Stopped)(PyObject**) noexcept


cdef int _call_returned(Awaited awaited, PyObject** result) except -1:
    return awaited._returned(result)


cdef int _call_raised(Awaited awaited, PyObject* exc, PyObject** result) except -1:
    return awaited._raised(<object>exc, result)


cdef int _stop_value(PyObject** result) except -1:
    """Return the value of the StopIteration that is set, as PyIter_Send does."""
    cdef PyObject* kind = NULL
    cdef PyObject* exc = NULL
    cdef PyObject* traceback = NULL
    PyErr_Fetch(&kind, &exc, &traceback)
    PyErr_NormalizeException(&kind, &exc, &traceback)
    value = (<object>exc).value
    Py_XDECREF(kind)
    Py_XDECREF(exc)
    Py_XDECREF(traceback)
    Py_INCREF(value)
    result[0] = <PyObject*>value
    return PYGEN_RETURN


cdef void _chain(PyObject* context) noexcept:
    """Make an exception the context of the one that is set."""
    cdef PyObject* kind = NULL
    cdef PyObject* exc = NULL
    cdef PyObject* traceback = NULL
    PyErr_Fetch(&kind, &exc, &traceback)
    PyErr_NormalizeException(&kind, &exc, &traceback)
    if exc is not context:
        Py_INCREF(<object>context)
        PyException_SetContext(exc, context)
    PyErr_Restore(kind, exc, traceback)
