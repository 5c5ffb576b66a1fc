# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, binding=False, auto_pickle=False
# cython: embedsignature=True, embedsignature.format=clinic
"""The compiled twins of what all requests have in common; see `exchange`.

An `Awaited` is what the compiled twins have in the place of a coroutine.
"""

cimport cython
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t

from aqltelemetry.entries import awaited

from aqltelemetry._hot_path cimport append, monotonic_ns


cdef extern from "Python.h":
    int PyIter_Send(PyObject* iterator, PyObject* value, PyObject** result) noexcept
    PyObject* PyDict_GetItemWithError(object mapping, object key) except? NULL
    bint PyCoro_CheckExact(object thing)
    bint PyDict_CheckExact(object thing)


cdef int _raise() except -1:
    """Have Cython see the exception that a call of C left."""
    return -1


cdef object taken(PyObject* new):
    """Return what a call of C returned as a reference of ours."""
    mine = <object>new
    Py_XDECREF(new)
    return mine


cdef object iterator_of(object awaitable):
    """Return what is sent to when something is awaited."""
    return awaitable if PyCoro_CheckExact(awaitable) else awaited(awaitable)


cdef object get(object mapping, object key, object default):
    """Return what a mapping has under a key."""
    cdef PyObject* found
    if not PyDict_CheckExact(mapping):
        return mapping.get(key, default)
    found = PyDict_GetItemWithError(mapping, key)
    return default if found is NULL else <object>found


@cython.final
cdef class Gauge:
    """What was begun and has not ended; both may be told on any thread."""

    def begin(self):
        """Count one more."""
        self.count += 1

    def end(self):
        """Count one less."""
        self.count -= 1

    @property
    def value(self):
        """How many there are."""
        return self.count


cdef class Exchange:
    """One request and its response; begins when it is made."""

    cdef int first_byte(self) except -1:
        """Note that the response's body begins now, if it has not before."""
        if not self.first_ns:
            self.first_ns = monotonic_ns()
        return 0

    cdef int end(self, tuple labels, bint with_ttfb) except -1:
        """Record the exchange, once, however often this is called."""
        if not self.ended:
            self.ended = True
            record_exchange(
                labels, self.started_ns, self.first_ns if with_ttfb else 0, self.status,
                self.disconnected,
            )
        return 0


cdef int record_exchange(
    tuple labels, int64_t started_ns, int64_t first_ns, long status, bint disconnected
) except -1:
    """Record an exchange that ends now; `first_ns` is 0 where it is not to be told."""
    cdef int64_t end_ns = monotonic_ns()
    cdef int64_t duration_ns = end_ns - started_ns
    try:
        append(labels[TOTAL], end_ns, duration_ns)
    finally:  # a worker may be told to quit amid this, by an exception
        if first_ns:
            append(labels[FIRST_BYTE], first_ns, first_ns - started_ns)
        if disconnected:
            append(labels[DISCONNECT], end_ns, duration_ns)
        elif status >= 400:
            append(labels[SERVER_ERROR if status >= 500 else CLIENT_ERROR], end_ns, duration_ns)
    return 0


cdef class Awaited:
    """An awaitable that awaits another, and sees it end, at the cost of no coroutine."""

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
            # What it returned, if what was to follow that raised.
            Py_XDECREF(result[0])
            result[0] = NULL
            if not self._raised(exc, result):
                raise
            return PYGEN_RETURN
        return PYGEN_NEXT

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


cdef int am_send_awaited(Awaited self, PyObject* value, PyObject** result) except -1:
    """Be the slot `am_send` of a class of these, which Cython has no other way to set."""
    return self._send(value, result)
